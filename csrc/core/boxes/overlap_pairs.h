#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// Two boxes that overlap.
using BoxPair = std::pair<std::size_t, std::size_t>;

/// The pairs of boxes that overlap, the first `most` in the order in which upstream's sweep finds
/// them (`default_planner._validate_global_plan`): boxes by start, the longest dim of `shape`
/// first; those before them that they meet by end. Near-linear in boxes and pairs as `any_overlap`
/// is, and for the first pairs of many that overlap.
/// `shape` has as many dims as the boxes, at least one.
std::vector<BoxPair> overlapping_pairs(const Boxes& boxes, std::span<const std::int64_t> shape,
                                       std::size_t most);

}  // namespace shardplan::boxes
