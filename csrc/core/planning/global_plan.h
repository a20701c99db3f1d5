#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/boxes/box.h"
#include "core/planning/rows_by_name.h"

namespace shardplan::planning {

/// One key of `state_dict_metadata`: a name and the rows of all plans that write it.
struct SavedEntry {
  std::uint32_t name;
  RowOfPlan first;    // the row whose size and properties the metadata takes
  bool bytes;         // the entry is a byte entry, which has no chunks
  std::size_t begin;  // first chunk, as an index into GlobalPlan::chunks
  std::size_t end;
};

/// The plans of all ranks as one (`default_planner.create_default_global_save_plan`).
struct GlobalPlan {
  std::vector<SavedEntry> entries;  // ordered by the first plan, and position in it, with the name
  std::vector<RowOfPlan> chunks;    // grouped by entry; ordered by plan and position within one
  /// For each plan and position, the chunk's index within its entry, or kNoChunkIndex.
  std::vector<std::vector<std::int64_t>> chunk_indices;
};

/// Numbers the chunks of each name across all plans, in time linear in the rows. Returns nothing if
/// upstream raises: a name that is not sharded is written twice. No row may be kObject. `pulse`
/// beats for each row.
std::optional<GlobalPlan> make_global_plan(std::span<const columns::RankPlan> plans,
                                           std::size_t name_count, const util::Pulse& pulse = {});

/// Appends the boxes of an entry's chunks. Returns false if a chunk has another number of dims than
/// `boxes`, or ends beyond int64.
///
/// view_of(rank): the SavePlanView of a rank's plan
template <typename ViewOf>
[[nodiscard]] bool append_boxes(const GlobalPlan& plan, std::size_t entry, const ViewOf& view_of,
                                boxes::Boxes& boxes) {
  const auto [begin, end] = std::pair(plan.entries[entry].begin, plan.entries[entry].end);
  boxes.reserve(boxes.size() + end - begin);
  for (std::size_t at = begin; at < end; ++at) {
    const RowOfPlan row = plan.chunks[at];
    const columns::SavePlanView view = view_of(row.plan);
    const std::int64_t* numbers = view.numbers(row.position);
    const std::size_t ndim = view.ndim(row.position);
    if (ndim != boxes.ndim() || !boxes.push(numbers, numbers + ndim)) return false;
  }
  return true;
}

}  // namespace shardplan::planning
