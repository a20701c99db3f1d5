#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace shardplan::data {

/// Copy of a box between two strided layouts, as runs of bytes that are contiguous in both.
///
/// Run (i, j, ...) has `run` bytes. It begins at byte `source + i * dims[0].source_stride + j *
/// dims[1].source_stride + ...` of the source, and alike of the target. Dims are sorted by source
/// stride, the largest first, so runs follow the order of the source.
struct StridedCopy {
  struct Dim {
    std::uint64_t count = 0;
    std::uint64_t source_stride = 0;  // in bytes
    std::uint64_t target_stride = 0;
  };

  std::uint64_t source = 0;
  std::uint64_t target = 0;
  std::uint64_t run = 0;  // 0 if the box is empty
  std::vector<Dim> dims;

  /// Returns the number of bytes that are copied.
  std::uint64_t bytes() const;

  /// Returns the number of bytes from `source` to the end of the last run.
  std::uint64_t source_reach() const;

  /// Calls `visit(source, target)` with the first bytes of each run, in order.
  template <class Visit>
  void for_each_run(Visit&& visit) const;

  /// Appends copies to `pieces` that have at most `max_bytes` bytes each and together equal this
  /// one, in order. `max_bytes` must not be 0.
  void split(std::uint64_t max_bytes, std::vector<StridedCopy>& pieces) const;
};

/// Layout of a tensor: the byte of its first element, and strides in elements, one per dim.
struct Layout {
  std::uint64_t begin = 0;
  std::span<const std::int64_t> strides;
};

/// Returns whether no two elements of a strided tensor share memory. Strides must not be negative.
/// Returns false for some tensors without overlap whose strides are not nested.
bool is_without_overlap(std::span<const std::int64_t> lengths,
                        std::span<const std::int64_t> strides);

/// Returns the copy of a box of `lengths` elements from `offsets` of the source to the beginning of
/// the target. Returns nullopt if a number is negative or a byte offset does not fit int64.
std::optional<StridedCopy> copy_of_box(std::uint64_t element_size, const Layout& source,
                                       std::span<const std::int64_t> offsets,
                                       std::span<const std::int64_t> lengths, const Layout& target);

template <class Visit>
void StridedCopy::for_each_run(Visit&& visit) const {
  if (run == 0) return;
  if (dims.empty()) {
    visit(source, target);
    return;
  }
  std::vector<std::uint64_t> index(dims.size());
  std::uint64_t from = source;
  std::uint64_t to = target;
  const Dim& inner = dims.back();
  for (;;) {
    for (std::uint64_t i = 0; i < inner.count; ++i) {
      visit(from + i * inner.source_stride, to + i * inner.target_stride);
    }
    std::size_t dim = dims.size() - 1;
    for (;;) {
      if (dim == 0) return;
      --dim;
      from += dims[dim].source_stride;
      to += dims[dim].target_stride;
      if (++index[dim] < dims[dim].count) break;
      from -= dims[dim].count * dims[dim].source_stride;
      to -= dims[dim].count * dims[dim].target_stride;
      index[dim] = 0;
    }
  }
}

}  // namespace shardplan::data
