#include "core/data/strided_copy.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/util/checked.h"

namespace shardplan::data {
namespace {

using Dim = StridedCopy::Dim;

/// Merges neighbouring dims that are one dim in both layouts, and the innermost one into the run.
void merge_dims(StridedCopy& copy) {
  std::ranges::stable_sort(copy.dims, std::ranges::greater{}, &Dim::source_stride);
  std::vector<Dim> merged;
  for (const Dim& dim : copy.dims) {
    if (!merged.empty() && merged.back().source_stride == dim.count * dim.source_stride &&
        merged.back().target_stride == dim.count * dim.target_stride) {
      merged.back() = {merged.back().count * dim.count, dim.source_stride, dim.target_stride};
    } else {
      merged.push_back(dim);
    }
  }
  if (!merged.empty() && merged.back().source_stride == copy.run &&
      merged.back().target_stride == copy.run) {
    copy.run *= merged.back().count;
    merged.pop_back();
  }
  copy.dims = std::move(merged);
}

}  // namespace

std::uint64_t StridedCopy::bytes() const {
  std::uint64_t total = run;
  for (const Dim& dim : dims) total *= dim.count;
  return total;
}

std::uint64_t StridedCopy::source_reach() const {
  std::uint64_t reach = run;
  for (const Dim& dim : dims) reach += (dim.count - 1) * dim.source_stride;
  return reach;
}

void StridedCopy::split(std::uint64_t max_bytes, std::vector<StridedCopy>& pieces) const {
  const std::uint64_t total = bytes();
  if (total <= max_bytes) {
    if (total != 0) pieces.push_back(*this);
    return;
  }
  if (dims.empty()) {
    for (std::uint64_t done = 0; done < run; done += max_bytes) {
      pieces.push_back({source + done, target + done, std::min(max_bytes, run - done), {}});
    }
    return;
  }
  const Dim& outer = dims.front();
  const std::uint64_t at_once = std::max<std::uint64_t>(1, max_bytes / (total / outer.count));
  for (std::uint64_t done = 0; done < outer.count; done += at_once) {
    StridedCopy piece = *this;
    piece.source += done * outer.source_stride;
    piece.target += done * outer.target_stride;
    piece.dims.front().count = std::min(at_once, outer.count - done);
    if (piece.dims.front().count == 1) piece.dims.erase(piece.dims.begin());
    piece.split(max_bytes, pieces);
  }
}

bool is_without_overlap(std::span<const std::int64_t> lengths,
                        std::span<const std::int64_t> strides) {
  std::vector<std::pair<std::int64_t, std::int64_t>> dims;  // stride and length
  for (std::size_t dim = 0; dim < lengths.size(); ++dim) {
    if (lengths[dim] <= 0) return true;
    if (lengths[dim] > 1) dims.emplace_back(strides[dim], lengths[dim]);
  }
  std::ranges::sort(dims);
  std::int64_t last = 0;  // index of the last element of the inner dims
  for (const auto& [stride, length] : dims) {
    std::int64_t reach = 0;
    if (stride <= last || !util::checked_mul(length - 1, stride, reach) ||
        !util::checked_add(last, reach, last)) {
      return false;
    }
  }
  return true;
}

std::optional<StridedCopy> copy_of_box(std::uint64_t element_size, const Layout& source,
                                       std::span<const std::int64_t> offsets,
                                       std::span<const std::int64_t> lengths,
                                       const Layout& target) {
  const auto element = static_cast<std::int64_t>(element_size);
  const bool empty = std::ranges::find(lengths, 0) != lengths.end();
  std::int64_t from = 0;
  std::int64_t source_reach = element;
  std::int64_t target_reach = element;
  StridedCopy copy;
  for (std::size_t dim = 0; dim < lengths.size(); ++dim) {
    Dim made;
    const std::int64_t strides[] = {source.strides[dim], target.strides[dim]};
    if (lengths[dim] < 0 || offsets[dim] < 0 || strides[0] < 0 || strides[1] < 0) {
      return std::nullopt;
    }
    if (empty) continue;
    std::int64_t steps[] = {0, 0};
    std::int64_t begin = 0;
    std::int64_t reach = 0;
    if (!util::checked_mul(strides[0], element, steps[0]) ||
        !util::checked_mul(strides[1], element, steps[1]) ||
        !util::checked_mul(offsets[dim], steps[0], begin) ||
        !util::checked_add(from, begin, from) ||
        !util::checked_mul(lengths[dim] - 1, steps[0], reach) ||
        !util::checked_add(source_reach, reach, source_reach) ||
        !util::checked_mul(lengths[dim] - 1, steps[1], reach) ||
        !util::checked_add(target_reach, reach, target_reach)) {
      return std::nullopt;
    }
    made.count = static_cast<std::uint64_t>(lengths[dim]);
    made.source_stride = static_cast<std::uint64_t>(steps[0]);
    made.target_stride = static_cast<std::uint64_t>(steps[1]);
    if (made.count != 1) copy.dims.push_back(made);
  }
  if (empty) return copy;
  // Every byte offset fits int64, and with it each product of `merge_dims` and `split`.
  std::int64_t bytes = element;
  for (const std::int64_t length : lengths) {
    if (!util::checked_mul(bytes, length, bytes)) return std::nullopt;
  }
  constexpr std::uint64_t kMaxByte = std::numeric_limits<std::int64_t>::max();
  const auto ends = [](std::uint64_t begin, std::int64_t reach) {
    return begin <= kMaxByte && static_cast<std::uint64_t>(reach) <= kMaxByte - begin;
  };
  if (!util::checked_add(from, source_reach, source_reach) || !ends(source.begin, source_reach) ||
      !ends(target.begin, target_reach)) {
    return std::nullopt;
  }
  copy.source = source.begin + static_cast<std::uint64_t>(from);
  copy.target = target.begin;
  copy.run = element_size;
  merge_dims(copy);
  return copy;
}

}  // namespace shardplan::data
