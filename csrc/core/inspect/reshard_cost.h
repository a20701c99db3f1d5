#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/boxes/layout.h"
#include "core/inspect/checkpoint.h"
#include "core/util/pulse.h"

namespace shardplan::inspect {

/// What one rank reads of a checkpoint.
struct RankCost {
  std::int64_t wanted = 0;  // bytes that it asks for
  std::int64_t read = 0;    // bytes of the saved items that it opens: each is read whole
  std::int64_t requests = 0;
  std::int64_t files = 0;
};

/// What every rank of a world would read to load a checkpoint, in the order of the mesh.
///
/// mesh_shape:    sizes of the world's dims
/// layouts:       ways to lay tensors out, one placement a mesh dim each
/// layout_of:     an entry -> its layout; a placement of a dim that a tensor lacks replicates
/// element_sizes: an entry -> bytes an element; 0 where they are not known
///
/// pulse:         beats meanwhile
///
/// Every rank reads every object. Near-linear in chunks, wanted boxes and pairs of them.
/// Throws std::invalid_argument for numbers that are out of range or do not fit int64.
std::vector<RankCost> reshard_cost(const Checkpoint& checkpoint,
                                   std::span<const std::int64_t> mesh_shape,
                                   std::span<const std::vector<boxes::Placement>> layouts,
                                   std::span<const std::uint32_t> layout_of,
                                   std::span<const std::int64_t> element_sizes,
                                   const util::Pulse& pulse = {});

/// Bytes of memory that reshard_cost takes at its peak, to a factor of two or so.
std::uint64_t reshard_memory(const Checkpoint& checkpoint, std::span<const std::int64_t> mesh_shape,
                             std::span<const std::vector<boxes::Placement>> layouts,
                             std::span<const std::uint32_t> layout_of);

}  // namespace shardplan::inspect
