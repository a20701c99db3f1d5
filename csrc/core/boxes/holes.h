#pragma once

#include <cstddef>
#include <cstdint>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// Uncovered parts of a region.
struct Holes {
  Boxes boxes;    // pairwise disjoint, merged where possible
  bool complete;  // false if the search stopped early; more holes may exist
};

/// Returns the parts of the region at `bounds` (`ndim` starts, then `ndim` ends) that no box
/// covers. Near-linear for shards of one dim, grids and recursive splits.
///
/// most: limit on the number of holes, counted before they are merged
Holes find_holes(const Boxes& boxes, const std::int64_t* bounds, std::size_t most);

}  // namespace shardplan::boxes
