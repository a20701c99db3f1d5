#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/planning/dedup.h"

namespace shardplan::testing {

/// Rows that each plan keeps.
using Kept = std::vector<std::vector<std::uint32_t>>;

/// Set orders: the ranks ascending, as they are given, and descending.
std::vector<std::uint32_t> as_given(std::span<const std::uint32_t> ranks);
std::vector<std::uint32_t> reversed(std::span<const std::uint32_t> ranks);

/// Reference for `planning::dedup`: upstream's `dedup_save_plans`, statement by statement. Every
/// number of bytes must be known.
Kept upstream_dedup(std::span<const columns::RankPlan> plans, bool save_to_lowest_rank,
                    const planning::SetOrder& set_order);

/// Reference for `planning::dedup` with Keeper::kBalanced.
Kept balanced_dedup(std::span<const columns::RankPlan> plans);

}  // namespace shardplan::testing
