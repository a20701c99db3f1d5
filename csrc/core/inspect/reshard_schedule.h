#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/boxes/layout.h"
#include "core/inspect/checkpoint.h"
#include "core/util/pulse.h"

namespace shardplan::inspect {

/// Reads of one part by one rank.
struct ScheduledPart {
  Checkpoint::Part part;
  std::uint32_t location = 0;         // row of Checkpoint::locations()
  std::vector<std::int64_t> offsets;  // of the wanted box in the saved one
  std::vector<std::int64_t> lengths;
  std::uint64_t wanted_bytes = 0;
  /// Reads of a part that is read together with earlier ones are counted for the first of them.
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
};

/// Returns how `data::load` reads the local shards of one rank of a mesh, in the order of the
/// schedule. Arguments are those of `reshard_cost`; parts without a location are left out.
///
/// Only metadata is used, so two things are assumed: saved boxes are contiguous in row-major order,
/// and the bytes that a part has beside its tensor are half before and half after it. The reads of
/// a part with more than a million runs are estimated.
///
/// Throws std::invalid_argument for numbers that are out of range or do not fit int64.
std::vector<ScheduledPart> reshard_schedule(const Checkpoint& checkpoint,
                                            std::span<const std::int64_t> mesh_shape,
                                            std::span<const std::vector<boxes::Placement>> layouts,
                                            std::span<const std::uint32_t> layout_of,
                                            std::span<const std::int64_t> element_sizes,
                                            std::size_t rank, const util::Pulse& pulse = {});

}  // namespace shardplan::inspect
