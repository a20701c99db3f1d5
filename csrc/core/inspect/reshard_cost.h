#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/boxes/layout.h"
#include "core/inspect/checkpoint.h"
#include "core/util/pulse.h"

namespace shardplan::inspect {

/// The reads of one rank.
struct RankCost {
  std::int64_t wanted = 0;  // bytes that its shards have
  std::int64_t read = 0;    // bytes of the parts that it opens; each part is read whole
  std::int64_t requests = 0;
  std::int64_t files = 0;
};

/// Returns what each rank of a mesh would read to load a checkpoint, in the order of the mesh.
/// Every rank reads every object.
///
/// - mesh_shape: ranks along each mesh dim
/// - layouts: one placement per mesh dim each; a placement of a dim that a tensor lacks replicates
/// - layout_of: the layout of each entry
/// - element_sizes: bytes per element of each entry; 0 if unknown
/// - pulse: beats during the work
///
/// The time is near-linear in the chunks, the wanted boxes and their overlapping pairs. Throws
/// std::invalid_argument for numbers that are out of range or do not fit int64.
std::vector<RankCost> reshard_cost(const Checkpoint& checkpoint,
                                   std::span<const std::int64_t> mesh_shape,
                                   std::span<const std::vector<boxes::Placement>> layouts,
                                   std::span<const std::uint32_t> layout_of,
                                   std::span<const std::int64_t> element_sizes,
                                   const util::Pulse& pulse = {});

/// Throws std::invalid_argument unless there is a layout of the mesh for each entry.
void check_layouts(const Checkpoint& checkpoint, std::span<const std::int64_t> mesh_shape,
                   std::span<const std::vector<boxes::Placement>> layouts,
                   std::span<const std::uint32_t> layout_of);

/// Estimates the peak memory of `reshard_cost` in bytes, within a factor of about two.
std::uint64_t reshard_memory(const Checkpoint& checkpoint, std::span<const std::int64_t> mesh_shape,
                             std::span<const std::vector<boxes::Placement>> layouts,
                             std::span<const std::uint32_t> layout_of);

}  // namespace shardplan::inspect
