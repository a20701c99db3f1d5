#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace shardplan::boxes {

/// Checks whether a set of in-bounds boxes covers every element of a tensor exactly once.
/// O(boxes * ndim) for any layout and order. Empty boxes have no effect.
///
/// The check is probabilistic with one-sided error. Each coordinate of each dim is mapped to a
/// pseudo-random point in the integers modulo 2^61 - 1, and the volume of a box is the product of
/// the differences of its mapped bounds. Boxes that tile the tensor have volumes that sum to the
/// volume of the tensor under every mapping. For other sets, the difference is a nonzero polynomial
/// of degree ndim in the points (Schwartz-Zippel). With two independent mappings, a set that is not
/// a tiling is accepted with probability below (ndim / 2^61)^2. The mappings are fixed, so every
/// rank and run gives the same answer.
class Tiling {
 public:
  explicit Tiling(std::span<const std::int64_t> shape);

  /// Adds the box [starts, ends), which must be in bounds.
  void add(const std::int64_t* starts, const std::int64_t* ends);

  /// Returns true if the boxes added so far tile the tensor.
  bool complete() const { return covered_ == whole_; }

 private:
  /// One value per mapping.
  using Measured = std::array<std::uint64_t, 2>;

  Measured volume(const std::int64_t* starts, const std::int64_t* ends) const;

  std::vector<Measured> dim_keys_;
  Measured covered_{};
  Measured whole_{};
};

}  // namespace shardplan::boxes
