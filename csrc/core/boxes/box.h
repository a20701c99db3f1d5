#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shardplan::boxes {

/// Boxes of one tensor. Box i covers [start, end) in each dim.
///
/// The bounds of a box are contiguous: `ndim` starts, then `ndim` ends. A box may be empty
/// (end <= start in some dim), out of bounds, or of negative size; see validate.h for checks.
/// Every end fits int64.
class Boxes {
 public:
  explicit Boxes(std::size_t ndim) : ndim_(ndim) {}

  /// Number of dims, the same for every box.
  std::size_t ndim() const { return ndim_; }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }

  void reserve(std::size_t count) { bounds_.reserve(count * 2 * ndim_); }
  void clear() {
    bounds_.clear();
    count_ = 0;
  }

  /// Appends a box given by `ndim` offsets and `ndim` sizes.
  /// Returns false and appends nothing if offset + size does not fit int64.
  [[nodiscard]] bool push(const std::int64_t* offsets, const std::int64_t* sizes);

  const std::int64_t* starts(std::size_t box) const { return bounds_.data() + box * 2 * ndim_; }
  const std::int64_t* ends(std::size_t box) const { return starts(box) + ndim_; }
  std::int64_t start(std::size_t box, std::size_t dim) const { return starts(box)[dim]; }
  std::int64_t end(std::size_t box, std::size_t dim) const { return ends(box)[dim]; }

 private:
  std::size_t ndim_;
  std::size_t count_ = 0;
  std::vector<std::int64_t> bounds_;
};

/// Returns true if two boxes overlap, i.e. in every dim each box starts before the other ends.
/// Each box is given as `ndim` starts followed by `ndim` ends. As in upstream
/// (`_check_box_overlap`, `_check_shard_metadata_pair_overlap`), a zero-size box strictly inside
/// another box overlaps it, and 0-d boxes always overlap.
inline bool bounds_overlap(const std::int64_t* a, const std::int64_t* b, std::size_t ndim) {
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    if (a[dim] >= b[ndim + dim] || b[dim] >= a[ndim + dim]) return false;
  }
  return true;
}

/// Returns true if box `box` has no negative offset or size and ends within `shape` (upstream:
/// `_check_box_bounds`). `shape` must have `boxes.ndim()` dims.
bool in_bounds(const Boxes& boxes, std::size_t box, std::span<const std::int64_t> shape);

/// Returns the same for a box as offsets and sizes; false if its dims are not those of `shape`.
bool in_bounds(std::span<const std::int64_t> offsets, std::span<const std::int64_t> sizes,
               std::span<const std::int64_t> shape);

/// Returns the boxes that are not `in_bounds`, ascending.
std::vector<std::size_t> out_of_bounds(const Boxes& boxes, std::span<const std::int64_t> shape);

/// Sets `out` to the product of the sizes of box `box`. Returns false if it does not fit int64.
[[nodiscard]] bool volume(const Boxes& boxes, std::size_t box, std::int64_t& out);

/// Sets `out` to the number of elements of `shape` (1 for 0-d). Returns false if it does not fit
/// int64.
[[nodiscard]] bool volume(std::span<const std::int64_t> shape, std::int64_t& out);

/// Sets `out` to the sum of the volumes of all boxes. Returns false if it does not fit int64.
[[nodiscard]] bool total_volume(const Boxes& boxes, std::int64_t& out);

}  // namespace shardplan::boxes
