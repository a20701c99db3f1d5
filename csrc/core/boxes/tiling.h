#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace shardplan::boxes {

/// Finds whether boxes that lie in a tensor cover each of its elements once. Linear in boxes and in
/// dims, whatever the layout and the order; boxes without elements count for nothing.
///
/// However length along the dims is measured, a set of boxes has a volume, and it tiles the tensor
/// exactly when that is the tensor's volume in every measure. This compares the two in two
/// measures, chosen as if at random, in which each coordinate of a dim has a place in the integers
/// modulo 2^61 - 1. A tiling is always recognised. Anything else is taken for one with probability
/// below (ndim / 2^61)^2: in each measure the volumes then differ by a polynomial of degree ndim in
/// the places, which has few zeros (Schwartz-Zippel). The measures are fixed: every rank and run
/// gives the same answer.
class Tiling {
 public:
  explicit Tiling(std::span<const std::int64_t> shape);

  /// Adds the box from `starts` to `ends`, which lies in the tensor.
  void add(const std::int64_t* starts, const std::int64_t* ends);

  /// Whether the boxes added tile the tensor.
  bool complete() const { return covered_ == whole_; }

 private:
  /// One number in each measure.
  using Measured = std::array<std::uint64_t, 2>;

  Measured volume(const std::int64_t* starts, const std::int64_t* ends) const;

  std::vector<Measured> dim_keys_;
  Measured covered_{};
  Measured whole_{};
};

}  // namespace shardplan::boxes
