#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shardplan::data {

/// Box of a strided tensor that a request writes.
struct TargetBox {
  std::uint64_t address = 0;  // of the tensor's first element
  std::uint64_t element_size = 0;
  std::span<const std::int64_t> sizes;  // of the tensor
  std::span<const std::int64_t> strides;
  std::span<const std::int64_t> offsets;  // of the box
  std::span<const std::int64_t> lengths;
};

/// Returns the indices of boxes that may share bytes with another one, in order, and of the other
/// boxes of their tensors. Two tensors may share bytes if their ranges of addresses overlap; boxes
/// of one tensor, if they overlap. Near-linear, as `boxes::any_overlap`.
std::vector<std::size_t> find_shared(std::span<const TargetBox> targets);

}  // namespace shardplan::data
