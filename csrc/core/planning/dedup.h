#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/columns/rank_plan.h"
#include "core/planning/keeper.h"
#include "core/util/pulse.h"

namespace shardplan::planning {

/// Takes ascending ranks and returns them in the iteration order of a CPython set.
using SetOrder = std::function<std::vector<std::uint32_t>(std::span<const std::uint32_t>)>;

/// Chooses the rows that each plan keeps, so that only one rank writes each (name, offset)
/// (`_dedup_save_plans.dedup_save_plans`). A plan keeps all or none of its rows with the same name
/// and offset. `set_order` is used for kFewestBytes.
///
/// Returns rows of `SavePlanView::rows`, ascending, in time linear in the rows; for kBalanced, also
/// n log n in the chunks that several ranks have. Returns nothing if a number of bytes is unknown
/// or does not fit int64. No row may be kObject. `pulse` beats for each row.
std::optional<std::vector<std::vector<std::uint32_t>>> dedup(
    std::span<const columns::RankPlan> plans, std::size_t name_count, Keeper keeper,
    const SetOrder& set_order, const util::Pulse& pulse = {});

}  // namespace shardplan::planning
