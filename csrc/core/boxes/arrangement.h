#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// How the boxes of a tensor lie, in words that people use for sharding.
struct Arrangement {
  enum class Kind : std::uint8_t {
    kNone,       // no box has elements
    kWhole,      // one box
    kOneDim,     // shards of one dim
    kGrid,       // shards of several dims, every one with every other
    kIrregular,  // anything else: boxes that overlap or leave holes, recursive splits
  };
  Kind kind = Kind::kNone;
  std::vector<std::size_t> parts;  // a dim: how many shards; none of kNone and kIrregular
  bool even = true;                // shards of a dim are as long as each other, but for its last
};

/// Recognises an arrangement. Boxes without elements count for nothing. n log n in the boxes.
Arrangement recognise(const Boxes& boxes);

}  // namespace shardplan::boxes
