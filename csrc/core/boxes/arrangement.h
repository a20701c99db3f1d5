#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// Classification of the sharding that the boxes of one tensor form.
struct Arrangement {
  enum class Kind : std::uint8_t {
    kNone,       // every box is empty
    kWhole,      // a single box
    kOneDim,     // sharded on one dim
    kGrid,       // sharded on several dims; the boxes form a full grid
    kIrregular,  // anything else, e.g. overlaps, holes, recursive splits
  };
  Kind kind = Kind::kNone;
  std::vector<std::size_t> parts;  // shards per dim; empty for kNone and kIrregular
  bool even = true;                // in each dim, only the last shard may be shorter
};

/// Returns the arrangement of `boxes`. Empty boxes are ignored. O(n log n) in the number of boxes.
Arrangement recognise(const Boxes& boxes);

}  // namespace shardplan::boxes
