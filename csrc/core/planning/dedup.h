#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/columns/rank_plan.h"
#include "core/util/pulse.h"

namespace shardplan::planning {

/// Gives ranks, ascending, in the order in which a CPython set of them is iterated.
using SetOrder = std::function<std::vector<std::uint32_t>(std::span<const std::uint32_t>)>;

/// The rows that each plan keeps so that every (name, offset) is written by one rank only
/// (`_dedup_save_plans.dedup_save_plans`): by the lowest that has it where `save_to_lowest_rank`,
/// else by the one with the fewest bytes so far, ties in `set_order`. Rows of one plan with the
/// same name and offset stay together.
///
/// Linear in the rows. Gives rows of `SavePlanView::rows`, ascending; nothing where a number of
/// bytes is not known or does not fit int64. No row may be kObject. `pulse` beats meanwhile.
std::optional<std::vector<std::vector<std::uint32_t>>> dedup(
    std::span<const columns::RankPlan> plans, std::size_t name_count, bool save_to_lowest_rank,
    const SetOrder& set_order, const util::Pulse& pulse = {});

}  // namespace shardplan::planning
