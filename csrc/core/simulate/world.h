#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "core/boxes/layout.h"
#include "core/columns/rank_plan.h"
#include "core/planning/coordinator.h"
#include "core/util/pulse.h"
#include "core/wire/save_plan.h"

namespace shardplan::simulate {

/// A tensor of a simulated model.
struct SimulatedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string dtype;
  std::int64_t element_size = 0;  // bytes
  std::uint32_t layout = 0;       // index into the layouts of the world
};

/// The ranks of a mesh that save one model. It makes the bytes that each rank sends.
class World {
 public:
  /// mesh_shape: ranks along each mesh dim; outlives the world
  /// layouts:    one placement per mesh dim; a placement of a dim that a tensor lacks replicates
  ///
  /// Throws std::invalid_argument, naming the tensor, if a layout has another number of placements
  /// than the mesh has dims, a name occurs twice, a size is negative or does not fit int64, or a
  /// name is too long for the wire.
  World(std::span<const SimulatedTensor> tensors, std::span<const std::int64_t> mesh_shape,
        std::span<const std::vector<boxes::Placement>> layouts);

  /// The table that all ranks share.
  const wire::NamedTable& table() const { return table_; }
  /// Bytes per element, one for each row of properties of the table.
  const std::vector<std::int64_t>& element_sizes() const { return element_sizes_; }

  /// Returns the encoded plan of every rank, in the order of the ranks.
  std::vector<std::string> plans(const util::Pulse& pulse = {}) const;

  /// Estimates the peak memory of planning, in bytes. The result is a double because the estimate
  /// may exceed every integer.
  double memory() const;

 private:
  void add(const SimulatedTensor& tensor, std::span<const std::vector<boxes::Placement>> layouts);
  std::uint32_t properties_of(const SimulatedTensor& tensor);
  std::string plan_of(const std::vector<std::int64_t>& coordinate, const util::Pulse& pulse) const;

  std::span<const std::int64_t> mesh_shape_;
  wire::NamedTable table_;
  std::unordered_set<std::string> names_;
  std::vector<std::int64_t> element_sizes_;
  std::vector<std::vector<boxes::Placement>> layouts_;  // one per entry of the table
  std::string bytes_;                                   // of the table
};

/// The plans of all ranks of a world, decoded. They must share one table.
class ReceivedPlans {
 public:
  /// bytes:         one encoded plan per rank; each is freed once it is decoded
  /// element_sizes: as `World::element_sizes`
  ///
  /// Throws BadWire for broken bytes, std::runtime_error if the tables differ.
  ReceivedPlans(std::vector<std::string> bytes, std::vector<std::int64_t> element_sizes,
                const util::Pulse& pulse = {});

  const wire::NamedTable& table() const { return table_; }
  std::size_t name_count() const { return table_.names.names.size(); }
  /// The plans for a coordinator; they point into this object.
  std::vector<columns::RankPlan> ranks() const;

  /// Returns the encoded plan of every rank in the coordinator's global plan.
  std::vector<std::string> encode(const planning::Coordinator& coordinator,
                                  const util::Pulse& pulse = {}) const;

 private:
  std::string table_bytes_;
  wire::NamedTable table_;
  std::vector<columns::SaveRows> rows_;
  std::vector<std::int64_t> element_sizes_;
};

/// Opens the encoded plan of a rank of a world. Throws BadWire.
wire::ReceivedRows decode_plan(std::string_view bytes, const columns::SaveTable& table);

/// Returns ranks in ascending order. A CPython set has another order where ranks exceed the size of
/// its hash table; the simulation ignores that.
std::vector<std::uint32_t> ascending(std::span<const std::uint32_t> ranks);

}  // namespace shardplan::simulate
