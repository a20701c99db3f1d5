#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/boxes/layout.h"
#include "core/planning/keeper.h"
#include "core/simulate/world.h"
#include "core/util/pulse.h"

namespace shardplan::simulate {

/// A simulated save: what each rank writes and sends, and the seconds that planning took here.
struct Simulation {
  struct OfRank {
    std::int64_t items = 0;
    std::int64_t bytes = 0;
  };
  std::vector<OfRank> ranks;  // written by each rank, without dropped replicas
  std::size_t items = 0;      // of all ranks, before replicas are dropped
  std::size_t wire_in = 0;    // bytes of the plans that the coordinator receives
  std::size_t wire_out = 0;   // bytes of the plans that it sends
  std::size_t metadata = 0;   // bytes of the metadata file, within a few percent
  /// Name and seconds of each stage: the local plans of all ranks one after another, then the
  /// stages of the coordinator.
  std::vector<std::pair<std::string, double>> stages;
  /// Offsets and sizes of each chunk of the selected tensor, 2 * ndim numbers per chunk.
  std::vector<std::int64_t> boxes;
  std::vector<std::uint32_t> writers;  // the rank that writes each of these chunks
};

/// Plans a save by the ranks of a mesh as a planner with this keeper does, on columns alone.
///
/// mesh_shape, layouts: as `World`
/// keeper:              which of several ranks writes a chunk
/// selected:            index of the tensor whose chunks are returned
/// pulse:               beats during every stage
///
/// Throws as `World`, and std::runtime_error if the plan is not valid.
Simulation simulate_save(std::span<const SimulatedTensor> tensors,
                         std::span<const std::int64_t> mesh_shape,
                         std::span<const std::vector<boxes::Placement>> layouts,
                         planning::Keeper keeper, std::size_t selected,
                         const util::Pulse& pulse = {});

/// Estimates the peak memory of such a simulation in bytes, within a factor of about two. The plans
/// of all ranks are held at once; the estimate is made from the plan of rank 0. Throws as `World`.
std::uint64_t simulation_memory(std::span<const SimulatedTensor> tensors,
                                std::span<const std::int64_t> mesh_shape,
                                std::span<const std::vector<boxes::Placement>> layouts);

}  // namespace shardplan::simulate
