#pragma once

#include <cstdint>

#include "core/boxes/box.h"
#include "core/columns/plan.h"

namespace shardplan::planning {

/// Appends to `out` one row for each saved box that meets a wanted box: what to read of it, and
/// where to put it
/// (`torch.distributed.checkpoint.planner_helpers.create_read_items_for_chunk_list`).
///
/// Near-linear in saved + wanted + rows, whichever dim is sharded; for one wanted box, one pass.
/// Rows come in upstream's order: wanted boxes by start on the sweep dim, saved ones by (end on it,
/// index). `saved` and `wanted` have the same number of dims.
///
/// Returns false, and appends nothing, where an offset or length does not fit int64.
[[nodiscard]] bool append_reads(std::uint32_t name, const boxes::Boxes& saved,
                                const boxes::Boxes& wanted, columns::ReadColumns& out);

/// The region in which a saved and a wanted box meet, dim by dim, as upstream words it
/// (`resharding._shards_get_overlap_region_wrt_saved_tensor`): offset in the saved box, offset in
/// the wanted box, length. Each array has `ndim` numbers. False where one does not fit int64.
[[nodiscard]] bool overlap_region(const std::int64_t* saved, const std::int64_t* wanted,
                                  std::size_t ndim, std::int64_t* storage_offsets,
                                  std::int64_t* dest_offsets, std::int64_t* lengths);

}  // namespace shardplan::planning
