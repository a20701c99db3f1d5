#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// Indices of two overlapping boxes.
using BoxPair = std::pair<std::size_t, std::size_t>;

/// Returns the first `most` overlapping pairs in the order of upstream's sweep
/// (`default_planner._validate_global_plan`). The sweep visits boxes by start on the longest dim of
/// `shape`, then by full bounds. Each box is paired with the overlapping boxes visited before it,
/// ordered by end on that dim, then by index.
///
/// `shape` must have `boxes.ndim()` dims, at least one. The cost is that of `any_overlap` plus the
/// number of overlapping pairs visited.
std::vector<BoxPair> overlapping_pairs(const Boxes& boxes, std::span<const std::int64_t> shape,
                                       std::size_t most);

}  // namespace shardplan::boxes
