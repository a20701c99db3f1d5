#include "core/simulate/world.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

#include "core/boxes/mesh.h"
#include "core/util/checked.h"
#include "core/wire/envelope.h"

namespace shardplan::simulate {
namespace {

constexpr std::string_view kRelease = "simulation";

// Bytes of memory that `World::memory` counts.
constexpr double kRow = 12;       // a row of a rank's plan, beside its numbers
constexpr double kPlan = 50;      // an encoded plan, beside its bytes
constexpr double kRank = 500;     // a rank, whatever it saves
constexpr double kDedup = 16.4;   // a row while replicas are dropped
constexpr double kGlobal = 20;    // a row while the global plan is made
constexpr double kLocation = 41;  // a row of storage_data

}  // namespace

World::World(std::span<const SimulatedTensor> tensors, std::span<const std::int64_t> mesh_shape,
             std::span<const std::vector<boxes::Placement>> layouts)
    : mesh_shape_(mesh_shape) {
  for (const SimulatedTensor& tensor : tensors) add(tensor, layouts);
  std::optional<std::string> bytes = wire::write_table(table_);
  if (!bytes) {
    throw std::invalid_argument("a tensor name is too long, or a tensor has too many dims");
  }
  bytes_ = std::move(*bytes);
}

std::vector<std::string> World::plans(const util::Pulse& pulse) const {
  std::vector<std::string> plans;
  boxes::for_each_coordinate(mesh_shape_, [&](const std::vector<std::int64_t>& coordinate) {
    plans.push_back(plan_of(coordinate, pulse));
  });
  return plans;
}

double World::memory() const {
  const auto ranks = static_cast<double>(boxes::rank_count(mesh_shape_));
  const std::vector<std::int64_t> first(mesh_shape_.size());
  const auto plan = static_cast<double>(plan_of(first, {}).size());
  double rows = 0;      // bytes of one rank's rows
  double written = 0;   // rows of all ranks, replicas dropped
  double metadata = 0;  // bytes of the columns of the metadata
  for (std::size_t entry = 0; entry < layouts_.size(); ++entry) {
    const auto ndim = static_cast<double>(table_.table.specs.ndim[table_.table.spec[entry]]);
    double holders = 1;
    for (std::size_t dim = 0; dim < mesh_shape_.size(); ++dim) {
      if (layouts_[entry][dim].kind == boxes::Placement::Kind::kReplicate) continue;
      holders *= static_cast<double>(mesh_shape_[dim]);
    }
    // Vectors that grow have room for half as much again.
    rows += kRow + 1.5 * 16 * ndim;
    written += holders;
    metadata += 1.5 * holders * (kLocation + 24 * ndim);
  }
  const auto entries = static_cast<double>(layouts_.size());
  const double sent = ranks * (static_cast<double>(bytes_.size()) + kPlan) +
                      written * (plan - static_cast<double>(bytes_.size())) / entries;
  const double dedup = ranks * entries * kDedup;
  const double global = written * kGlobal + sent + metadata;
  return ranks * (rows + kRank) + std::max({ranks * (plan + kPlan), dedup, global});
}

void World::add(const SimulatedTensor& tensor,
                std::span<const std::vector<boxes::Placement>> layouts) {
  if (tensor.layout >= layouts.size() || layouts[tensor.layout].size() != mesh_shape_.size()) {
    throw std::invalid_argument("the layout of " + tensor.name +
                                " must have one placement per mesh dim");
  }
  if (!names_.insert(tensor.name).second) {
    throw std::invalid_argument("the name " + tensor.name + " occurs twice");
  }
  std::int64_t bytes = tensor.element_size;
  for (const std::int64_t size : tensor.shape) {
    if (size < 0 || !util::checked_mul(bytes, size, bytes)) {
      throw std::invalid_argument("the size of " + tensor.name +
                                  " is negative or does not fit int64");
    }
  }
  layouts_.push_back(boxes::fitted(layouts[tensor.layout], tensor.shape.size()));
  const wire::PathShape path = {
      {static_cast<std::uint32_t>(wire::count_parts(tensor.name)), false}};
  const auto known = std::ranges::find(table_.names.shapes, path);
  table_.names.shape_of_name.push_back(
      static_cast<std::uint32_t>(known - table_.names.shapes.begin()));
  if (known == table_.names.shapes.end()) table_.names.shapes.push_back(path);
  table_.table.name.push_back(static_cast<std::uint32_t>(table_.names.names.size()));
  table_.names.names.push_back(tensor.name);
  table_.table.spec.push_back(
      table_.table.specs.push(columns::WriteKind::kShard, properties_of(tensor), tensor.shape));
}

std::uint32_t World::properties_of(const SimulatedTensor& tensor) {
  const auto known = std::ranges::find(table_.properties, tensor.dtype);
  const auto row = static_cast<std::uint32_t>(known - table_.properties.begin());
  if (known == table_.properties.end()) {
    table_.properties.push_back(tensor.dtype);
    element_sizes_.push_back(tensor.element_size);
  }
  return row;
}

std::string World::plan_of(const std::vector<std::int64_t>& coordinate,
                           const util::Pulse& pulse) const {
  columns::SaveRows rows;
  for (std::uint32_t entry = 0; entry < table_.table.size(); ++entry) {
    pulse.beat();
    const auto shape = table_.table.specs.shape(table_.table.spec[entry]);
    std::int64_t* numbers = rows.push(entry, shape.size());
    if (!boxes::local_box(shape, mesh_shape_, coordinate, layouts_[entry], numbers,
                          numbers + shape.size())) {
      throw std::invalid_argument(table_.names.names[entry] + " cannot be sharded by its layout");
    }
  }
  const std::string bytes = wire::write_rows({&table_.table, &rows});
  return wire::seal(wire::WireKind::kSavePlan, kRelease, {rows.size(), bytes_, bytes});
}

wire::ReceivedRows decode_plan(std::string_view bytes, const columns::SaveTable& table) {
  const wire::Envelope plan = wire::open(wire::WireKind::kSavePlan, kRelease, bytes);
  return wire::read_rows(plan.rows, plan.items, table);
}

ReceivedPlans::ReceivedPlans(std::vector<std::string> bytes,
                             std::vector<std::int64_t> element_sizes, const util::Pulse& pulse)
    : element_sizes_(std::move(element_sizes)) {
  rows_.reserve(bytes.size());
  for (std::string& of_rank : bytes) {
    pulse.check();
    const wire::Envelope plan = wire::open(wire::WireKind::kSavePlan, kRelease, of_rank);
    if (rows_.empty()) {
      table_bytes_ = plan.table;
      table_ = wire::read_table(table_bytes_);
    } else if (table_bytes_ != plan.table) {
      throw std::runtime_error("rank " + std::to_string(rows_.size()) +
                               " has another table than rank 0");
    }
    rows_.push_back(wire::read_rows(plan.rows, plan.items, table_.table).rows);
    of_rank = {};
  }
}

std::vector<columns::RankPlan> ReceivedPlans::ranks() const {
  std::vector<columns::RankPlan> ranks;
  ranks.reserve(rows_.size());
  for (const columns::SaveRows& rows : rows_) {
    ranks.push_back({{&table_.table, &rows}, table_.table.name, element_sizes_});
  }
  return ranks;
}

std::vector<std::string> ReceivedPlans::encode(const planning::Coordinator& coordinator,
                                               const util::Pulse& pulse) const {
  std::vector<std::string> sent;
  sent.reserve(coordinator.plans().size());
  for (std::size_t rank = 0; rank < coordinator.plans().size(); ++rank) {
    pulse.check();
    columns::SavePlanView view = coordinator.plans()[rank].view;
    view.chunk_indices = &coordinator.global().chunk_indices[rank];
    const std::string rows = wire::write_rows(view);
    sent.push_back(
        wire::seal(wire::WireKind::kSavePlan, kRelease, {view.size(), table_bytes_, rows}));
  }
  return sent;
}

std::vector<std::uint32_t> ascending(std::span<const std::uint32_t> ranks) {
  return {ranks.begin(), ranks.end()};
}

}  // namespace shardplan::simulate
