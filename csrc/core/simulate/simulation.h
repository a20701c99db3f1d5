#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/boxes/layout.h"
#include "core/util/pulse.h"

namespace shardplan::simulate {

/// A tensor of a model that is imagined.
struct ImaginedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string dtype;
  std::int64_t element_size = 0;
  std::uint32_t layout = 0;  // into the layouts
};

/// What a save of such a model would be, and how long its planning took here.
struct Simulation {
  struct OfRank {
    std::int64_t items = 0;
    std::int64_t bytes = 0;
  };
  std::vector<OfRank> ranks;  // what each writes, replicas dropped
  std::size_t items = 0;      // before replicas are dropped
  std::size_t wire_in = 0;    // bytes of the plans that arrive, and of those that are sent
  std::size_t wire_out = 0;
  std::size_t metadata = 0;  // bytes of the metadata file, to a few in a hundred
  /// Stages and their seconds: every rank's local plan, one after another; then the coordinator's.
  std::vector<std::pair<std::string, double>> stages;
  /// Of one tensor: the offsets, then the sizes, of its chunks; and who writes each.
  std::vector<std::int64_t> boxes;
  std::vector<std::uint32_t> writers;
};

/// Plans a save by a world of this mesh, as upstream's default planner does, on columns alone.
///
/// layouts: ways to lay tensors out, one placement a mesh dim; one of a dim that a tensor lacks
///          replicates
/// look_at: the tensor whose chunks are wanted
/// pulse:   beats meanwhile
///
/// Throws std::invalid_argument and std::runtime_error, which say what cannot be planned.
Simulation simulate_save(std::span<const ImaginedTensor> tensors,
                         std::span<const std::int64_t> mesh_shape,
                         std::span<const std::vector<boxes::Placement>> layouts,
                         std::size_t look_at, const util::Pulse& pulse = {});

/// Bytes of memory that such a simulation takes at its peak, to a factor of two or so: the plans of
/// every rank are held at once. Made of the first rank's plan; throws as simulate_save does.
std::uint64_t simulation_memory(std::span<const ImaginedTensor> tensors,
                                std::span<const std::int64_t> mesh_shape,
                                std::span<const std::vector<boxes::Placement>> layouts);

}  // namespace shardplan::simulate
