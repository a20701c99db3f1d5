#pragma once

#include <cstdint>

#include "core/boxes/box.h"
#include "core/columns/plan.h"

namespace shardplan::planning {

/// Appends a row to `out` for each overlap of a saved and a wanted box
/// (`torch.distributed.checkpoint.planner_helpers.create_read_items_for_chunk_list`).
///
/// The time is near-linear in saved + wanted + rows, for any sharded dim. Rows are in upstream's
/// order: by start of the wanted box on the sweep dim, then by end of the saved box on it, then by
/// index of the saved box. `saved` and `wanted` have the same number of dims.
///
/// Returns false, and appends nothing, if an offset or length does not fit int64.
[[nodiscard]] bool append_reads(std::uint32_t name, const boxes::Boxes& saved,
                                const boxes::Boxes& wanted, columns::ReadColumns& out);

/// Computes the overlap of a saved and a wanted box
/// (`resharding._shards_get_overlap_region_wrt_saved_tensor`): per dim, the offset in the saved
/// box, the offset in the wanted box, and the length. Each output array has `ndim` numbers. Returns
/// false if a number does not fit int64.
[[nodiscard]] bool overlap_region(const std::int64_t* saved, const std::int64_t* wanted,
                                  std::size_t ndim, std::int64_t* storage_offsets,
                                  std::int64_t* dest_offsets, std::int64_t* lengths);

}  // namespace shardplan::planning
