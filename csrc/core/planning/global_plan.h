#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/planning/rows_by_name.h"

namespace shardplan::planning {

/// What the plans of all ranks write of one name.
struct SavedEntry {
  std::uint32_t name;
  RowOfPlan first;    // the row that the size and properties are taken from
  bool bytes;         // no tensor: no chunk
  std::size_t begin;  // into GlobalPlan::chunks
  std::size_t end;
};

/// Many plans as one (`default_planner.create_default_global_save_plan`).
struct GlobalPlan {
  std::vector<SavedEntry> entries;  // in the order in which plans first name them
  std::vector<RowOfPlan> chunks;    // entry by entry, in the order of the plans
  std::vector<std::vector<std::int64_t>>
      chunk_indices;  // a plan's positions: index among the chunks
};

/// Numbers the chunks of each name through all plans. Linear in the rows. Nothing where upstream
/// raises: a name that is written twice and is not sharded. No row may be kObject. `pulse` beats
/// meanwhile.
std::optional<GlobalPlan> make_global_plan(std::span<const columns::RankPlan> plans,
                                           std::size_t name_count, const util::Pulse& pulse = {});

}  // namespace shardplan::planning
