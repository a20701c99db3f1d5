#pragma once

#include <cstddef>
#include <cstdint>
#include <random>

#include "brute_force.h"

namespace shardplan::testing {

/// Random numbers that are the same with every standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// A number from `low` to `high`, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(index(static_cast<std::size_t>(high - low) + 1));
  }
  std::size_t index(std::size_t count) { return static_cast<std::size_t>(engine_() % count); }
  bool one_in(std::size_t count) { return index(count) == 0; }

 private:
  std::mt19937_64 engine_;
};

/// A tensor and boxes of it.
struct Layout {
  Numbers shape;
  BoxList boxes;
};

/// Up to three dims of up to 7, some of them empty.
Numbers random_shape(Random& random);

/// Runs of uneven length along one dim, some of them empty.
Layout runs(const Numbers& shape, std::size_t dim, std::size_t count, Random& random);

/// A grid of uneven cells.
Layout grid(const Numbers& shape, const std::vector<std::size_t>& counts, Random& random);

/// A recursive split along dims and at places chosen at random.
Layout recursive_split(const Numbers& shape, std::size_t count, Random& random);

/// Rings of four rods about a centre: no cut goes through.
Layout nested_pinwheel(std::int64_t rings);

/// A row and a column off the corner of what is left, again and again: the most lopsided split.
Layout nested_corners(std::int64_t count);

/// Any of those, of a small tensor of one to four dims, in any order.
Layout random_tiling(Random& random);

/// A random tiling, or one with boxes left out, doubled, moved, grown or emptied.
Layout random_layout(Random& random);

/// Boxes without a plan: overlapping, empty, negative, equal.
BoxList random_boxes(std::size_t ndim, std::size_t count, Random& random);

void shuffle(BoxList& boxes, Random& random);

}  // namespace shardplan::testing
