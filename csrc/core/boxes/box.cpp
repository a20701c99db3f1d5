#include "core/boxes/box.h"

#include "core/util/checked.h"

namespace shardplan::boxes {

bool Boxes::push(const std::int64_t* offsets, const std::int64_t* sizes) {
  const std::size_t at = bounds_.size();
  bounds_.resize(at + 2 * ndim_);
  std::int64_t* starts = bounds_.data() + at;
  for (std::size_t dim = 0; dim < ndim_; ++dim) {
    starts[dim] = offsets[dim];
    if (!util::checked_add(offsets[dim], sizes[dim], starts[ndim_ + dim])) {
      bounds_.resize(at);
      return false;
    }
  }
  ++count_;
  return true;
}

bool in_bounds(const Boxes& boxes, std::size_t box, std::span<const std::int64_t> shape) {
  const std::int64_t* starts = boxes.starts(box);
  const std::int64_t* ends = boxes.ends(box);
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    if (starts[dim] < 0 || ends[dim] < starts[dim] || ends[dim] > shape[dim]) return false;
  }
  return true;
}

bool in_bounds(std::span<const std::int64_t> offsets, std::span<const std::int64_t> sizes,
               std::span<const std::int64_t> shape) {
  if (offsets.size() != shape.size() || sizes.size() != shape.size()) return false;
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    if (offsets[dim] < 0 || sizes[dim] < 0 || sizes[dim] > shape[dim] ||
        offsets[dim] > shape[dim] - sizes[dim]) {
      return false;
    }
  }
  return true;
}

std::vector<std::size_t> out_of_bounds(const Boxes& boxes, std::span<const std::int64_t> shape) {
  std::vector<std::size_t> outside;
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    if (!in_bounds(boxes, box, shape)) outside.push_back(box);
  }
  return outside;
}

bool volume(const Boxes& boxes, std::size_t box, std::int64_t& out) {
  out = 1;
  for (std::size_t dim = 0; dim < boxes.ndim(); ++dim) {
    std::int64_t size = 0;
    if (!util::checked_sub(boxes.end(box, dim), boxes.start(box, dim), size) ||
        !util::checked_mul(out, size, out)) {
      return false;
    }
  }
  return true;
}

bool volume(std::span<const std::int64_t> shape, std::int64_t& out) {
  out = 1;
  for (const std::int64_t size : shape) {
    if (!util::checked_mul(out, size, out)) return false;
  }
  return true;
}

bool total_volume(const Boxes& boxes, std::int64_t& out) {
  out = 0;
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    std::int64_t elements = 0;
    if (!volume(boxes, box, elements) || !util::checked_add(out, elements, out)) return false;
  }
  return true;
}

}  // namespace shardplan::boxes
