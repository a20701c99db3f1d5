#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "brute_force.h"
#include "random.h"

namespace shardplan::testing {

/// Shape of a tensor and a list of its boxes.
struct Layout {
  Numbers shape;
  BoxList boxes;
};

/// One to three dims of size 0 to 7.
Numbers random_shape(Random& random);

/// Uneven shards of one dim, some of them empty.
Layout runs(const Numbers& shape, std::size_t dim, std::size_t count, Random& random);

/// Uneven grid.
Layout grid(const Numbers& shape, const std::vector<std::size_t>& counts, Random& random);

/// Recursive split along random dims at random coordinates.
Layout recursive_split(const Numbers& shape, std::size_t count, Random& random);

/// Concentric rings of four boxes each. No plane separates the boxes of a ring without crossing
/// one.
Layout nested_pinwheel(std::int64_t rings);

/// Repeatedly splits off a row and a column: the most unbalanced split.
Layout nested_corners(std::int64_t count);

/// Any of the tilings above, of a small tensor of one to four dims, in random order.
Layout random_tiling(Random& random);

/// Random tiling, possibly with boxes removed, duplicated, moved, grown or emptied.
Layout random_layout(Random& random);

/// Random boxes: overlapping, empty, equal, or of negative size.
BoxList random_boxes(std::size_t ndim, std::size_t count, Random& random);

void shuffle(BoxList& boxes, Random& random);

}  // namespace shardplan::testing
