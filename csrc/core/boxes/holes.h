#pragma once

#include <cstddef>
#include <cstdint>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// The part of a region that no box covers.
struct Holes {
  Boxes boxes;    // no two overlap; few where few will do
  bool complete;  // false: the search was given up, there are more
};

/// What `boxes` leave uncovered of the region at `bounds` (`ndim` starts, then `ndim` ends), as
/// boxes. Near-linear for shards of any one dim, for grids and for recursive splits.
///
/// most: the search is given up at this many holes, before they are merged
Holes find_holes(const Boxes& boxes, const std::int64_t* bounds, std::size_t most);

}  // namespace shardplan::boxes
