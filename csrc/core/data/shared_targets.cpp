#include "core/data/shared_targets.h"

#include <algorithm>
#include <limits>

#include "core/boxes/box.h"
#include "core/boxes/validate.h"
#include "core/data/strided_copy.h"

namespace shardplan::data {
namespace {

constexpr std::uint64_t kMaxAddress = std::numeric_limits<std::uint64_t>::max();

bool is_empty(std::span<const std::int64_t> sizes) {
  return std::ranges::any_of(sizes, [](std::int64_t size) { return size <= 0; });
}

/// Returns the end of the tensor's bytes, or the maximum if it does not fit.
std::uint64_t end_of(const TargetBox& target) {
  std::uint64_t last = 0;  // index of the last element
  for (std::size_t dim = 0; dim < target.sizes.size(); ++dim) {
    std::uint64_t reach = 0;
    if (target.strides[dim] < 0 ||
        __builtin_mul_overflow(static_cast<std::uint64_t>(target.sizes[dim] - 1),
                               static_cast<std::uint64_t>(target.strides[dim]), &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return kMaxAddress;
    }
  }
  std::uint64_t bytes = 0;
  std::uint64_t end = 0;
  if (__builtin_add_overflow(last, std::uint64_t{1}, &last) ||
      __builtin_mul_overflow(last, target.element_size, &bytes) ||
      __builtin_add_overflow(target.address, bytes, &end)) {
    return kMaxAddress;
  }
  return end;
}

bool is_same_tensor(const TargetBox& a, const TargetBox& b) {
  return a.address == b.address && a.element_size == b.element_size &&
         std::ranges::equal(a.sizes, b.sizes) && std::ranges::equal(a.strides, b.strides);
}

/// Returns whether boxes of one tensor overlap, or cannot be compared.
bool any_overlap(std::span<const TargetBox> targets, std::span<const std::size_t> indices) {
  if (indices.size() < 2) return false;
  const TargetBox& first = targets[indices[0]];
  if (first.sizes.empty() || !is_without_overlap(first.sizes, first.strides)) return true;
  boxes::Boxes boxes(first.sizes.size());
  for (const std::size_t index : indices) {
    if (is_empty(targets[index].lengths)) continue;
    if (!boxes.push(targets[index].offsets.data(), targets[index].lengths.data())) return true;
  }
  return boxes::any_overlap(boxes);
}

}  // namespace

std::vector<std::size_t> find_shared(std::span<const TargetBox> targets) {
  std::vector<std::size_t> order;
  order.reserve(targets.size());
  for (std::size_t at = 0; at < targets.size(); ++at) {
    if (!is_empty(targets[at].sizes) && !is_empty(targets[at].lengths)) order.push_back(at);
  }
  std::ranges::stable_sort(order, {}, [&](std::size_t at) { return targets[at].address; });
  std::vector<std::size_t> shared;
  for (std::size_t first = 0; first < order.size();) {
    // Tensors whose ranges of addresses overlap, and whether they are one tensor.
    std::uint64_t end = end_of(targets[order[first]]);
    bool is_one = true;
    std::size_t next = first + 1;
    for (; next < order.size() && targets[order[next]].address < end; ++next) {
      is_one = is_one && is_same_tensor(targets[order[first]], targets[order[next]]);
      end = std::max(end, end_of(targets[order[next]]));
    }
    const std::span<const std::size_t> group(order.data() + first, next - first);
    if (!is_one || any_overlap(targets, group)) {
      shared.insert(shared.end(), group.begin(), group.end());
    }
    first = next;
  }
  std::ranges::sort(shared);
  return shared;
}

}  // namespace shardplan::data
