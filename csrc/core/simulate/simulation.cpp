#include "core/simulate/simulation.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <unordered_set>

#include "core/boxes/mesh.h"
#include "core/metadata/metadata_writer.h"
#include "core/planning/coordinator.h"
#include "core/util/checked.h"
#include "core/util/clock.h"
#include "core/wire/envelope.h"

namespace shardplan::simulate {
namespace {

constexpr std::string_view kRelease = "simulation";
/// What torch.save adds to the bytes of a tensor, about.
constexpr std::int64_t kAround = 1'100;
/// What a TensorProperties takes in a metadata file, about; and what a mapping takes beside the
/// name, which it has twice.
constexpr std::size_t kProperties = 25;
constexpr std::size_t kMapping = 15;

/// The table that all ranks share, and the plans that they send.
class World {
 public:
  World(std::span<const ImaginedTensor> tensors, std::span<const std::int64_t> mesh_shape,
        std::span<const std::vector<boxes::Placement>> layouts)
      : mesh_shape_(mesh_shape) {
    for (const ImaginedTensor& tensor : tensors) add(tensor, layouts);
    bytes_ = wire::write_table(table_);
    if (bytes_.empty()) throw std::invalid_argument("a name, or a number of dims, is too large");
  }

  const std::vector<std::int64_t>& element_sizes() const { return element_sizes_; }

  std::vector<std::string> plans(const util::Pulse& pulse) const {
    std::vector<std::string> plans;
    boxes::for_each_coordinate(mesh_shape_, [&](const std::vector<std::int64_t>& coordinate) {
      plans.push_back(plan_of(coordinate, pulse));
    });
    return plans;
  }

  /// About what the stages hold at once, in bytes; as a double, for it may be beyond any integer.
  double memory() const {
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

 private:
  void add(const ImaginedTensor& tensor, std::span<const std::vector<boxes::Placement>> layouts) {
    if (tensor.layout >= layouts.size() || layouts[tensor.layout].size() != mesh_shape_.size()) {
      throw std::invalid_argument("a layout has one placement a dim of the mesh");
    }
    if (!names_.insert(tensor.name).second) {
      throw std::invalid_argument(tensor.name + " comes twice");
    }
    std::int64_t bytes = tensor.element_size;
    for (const std::int64_t size : tensor.shape) {
      if (size < 0 || !util::checked_mul(bytes, size, bytes)) {
        throw std::invalid_argument("the size of " + tensor.name + " is negative, or too large");
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

  std::uint32_t properties_of(const ImaginedTensor& tensor) {
    const auto known = std::ranges::find(table_.properties, tensor.dtype);
    const auto row = static_cast<std::uint32_t>(known - table_.properties.begin());
    if (known == table_.properties.end()) {
      table_.properties.push_back(tensor.dtype);
      element_sizes_.push_back(tensor.element_size);
    }
    return row;
  }

  // Bytes of memory: of a row in the plan of a rank, of a plan beside its bytes, of what is held
  // for a rank anyway, of a row that is looked at for replicas, of one that is numbered, of a
  // place.
  static constexpr double kRow = 12, kPlan = 50, kRank = 500, kDedup = 16.4, kGlobal = 20,
                          kLocation = 41;

  std::string plan_of(const std::vector<std::int64_t>& coordinate, const util::Pulse& pulse) const {
    columns::SaveRows rows;
    for (std::uint32_t entry = 0; entry < table_.table.size(); ++entry) {
      pulse.beat();
      const auto shape = table_.table.specs.shape(table_.table.spec[entry]);
      std::int64_t* numbers = rows.push(entry, shape.size());
      if (!boxes::local_box(shape, mesh_shape_, coordinate, layouts_[entry], numbers,
                            numbers + shape.size())) {
        throw std::invalid_argument(table_.names.names[entry] + " cannot be laid out so");
      }
    }
    const std::string bytes = wire::write_rows({&table_.table, &rows});
    return wire::seal(wire::WireKind::kSavePlan, kRelease, {rows.size(), bytes_, bytes});
  }

  std::span<const std::int64_t> mesh_shape_;
  wire::NamedTable table_;
  std::unordered_set<std::string> names_;
  std::vector<std::int64_t> element_sizes_;
  std::vector<std::vector<boxes::Placement>> layouts_;  // an entry
  std::string bytes_;
};

std::size_t bytes_of(const std::vector<std::string>& plans) {
  std::size_t bytes = 0;
  for (const std::string& plan : plans) bytes += plan.size();
  return bytes;
}

std::int64_t bytes_of_row(const columns::RankPlan& plan, std::size_t position) {
  const std::size_t ndim = plan.view.ndim(position);
  const std::int64_t* sizes = plan.view.numbers(position) + ndim;
  const std::uint32_t properties = plan.view.table->specs.properties[plan.view.spec(position)];
  std::int64_t bytes = plan.element_size[properties];
  for (std::size_t dim = 0; dim < ndim; ++dim) bytes *= sizes[dim];  // fits: as of the whole tensor
  return bytes;
}

/// The metadata of the global plan as a file has it; nothing of it is kept.
std::size_t metadata_bytes(const planning::Coordinator& coordinator, const util::Pulse& pulse) {
  columns::SavedChunks chunks;
  columns::StorageRows locations;
  const auto names = std::make_shared<util::TextTable>();
  const auto paths = std::make_shared<util::TextTable>();
  std::vector<std::int64_t> written(coordinator.plans().size());
  for (const planning::SavedEntry& entry : coordinator.global().entries) {
    const columns::RankPlan& first = coordinator.plans()[entry.first.plan];
    const auto shape = first.view.shape(entry.first.position);
    const auto name = names->number_of(coordinator.table().names.names[entry.name]);
    const std::uint32_t properties =
        first.view.table->specs.properties[first.view.spec(entry.first.position)];
    std::int64_t* numbers =
        chunks.push(name, columns::WriteKind::kShard, properties, shape, entry.end - entry.begin);
    for (std::size_t at = entry.begin; at < entry.end; ++at) {
      pulse.beat();
      const planning::RowOfPlan row = coordinator.global().chunks[at];
      const std::int64_t* box = coordinator.plans()[row.plan].view.numbers(row.position);
      numbers = std::copy_n(box, 2 * shape.size(), numbers);
      const std::int64_t length =
          bytes_of_row(coordinator.plans()[row.plan], row.position) + kAround;
      const auto path = paths->number_of("__" + std::to_string(row.plan) + "_0.distcp");
      std::copy_n(box, shape.size(),
                  locations.push(name, static_cast<std::uint8_t>(shape.size()),
                                 static_cast<std::int64_t>(at - entry.begin), path,
                                 written[row.plan], length));
      written[row.plan] += length;
    }
  }
  std::size_t bytes = 0;
  pickle::Writer out([&](std::string_view block) {
    pulse.check();
    bytes += block.size();
  });
  constexpr metadata::MetadataMemo kMemo{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  constexpr std::uint32_t kFirstName = 16;
  for (const util::TextTable* texts : {names.get(), paths.get()}) {
    for (std::size_t text = 0; text < texts->size(); ++text) out.text((*texts)[text]);
  }
  for (const std::string& name : coordinator.table().names.names) {
    bytes += 2 * name.size() + kMapping;
  }
  metadata::EntryPickles pickles;
  pickles.first_name = kFirstName;
  pickles.properties.assign(coordinator.table().properties.size(), std::string(kProperties, ' '));
  metadata::write_entries(out, kMemo, chunks, pickles);
  metadata::write_storage(out, kMemo, locations, kFirstName,
                          kFirstName + static_cast<std::uint32_t>(names->size()));
  out.stop();
  return bytes;
}

void look_at(const planning::Coordinator& coordinator, std::size_t tensor, Simulation& out) {
  for (const planning::SavedEntry& entry : coordinator.global().entries) {
    if (entry.name != tensor) continue;
    for (std::size_t at = entry.begin; at < entry.end; ++at) {
      const planning::RowOfPlan row = coordinator.global().chunks[at];
      const columns::SavePlanView& view = coordinator.plans()[row.plan].view;
      const std::int64_t* numbers = view.numbers(row.position);
      out.boxes.insert(out.boxes.end(), numbers, numbers + 2 * view.ndim(row.position));
      out.writers.push_back(row.plan);
    }
  }
}

}  // namespace

Simulation simulate_save(std::span<const ImaginedTensor> tensors,
                         std::span<const std::int64_t> mesh_shape,
                         std::span<const std::vector<boxes::Placement>> layouts, std::size_t tensor,
                         const util::Pulse& pulse) {
  const std::size_t ranks = boxes::rank_count(mesh_shape);
  const World world(tensors, mesh_shape, layouts);
  Simulation out;
  out.items = ranks * tensors.size();
  util::Clock clock;
  const auto stage = [&](const char* name) { out.stages.emplace_back(name, clock.lap()); };
  std::vector<std::string> plans = world.plans(pulse);
  stage("local plans");
  out.wire_in = bytes_of(plans);
  planning::Coordinator coordinator(std::move(plans), std::string(kRelease), world.element_sizes(),
                                    pulse);
  clock.lap();
  coordinator.read();
  stage("read");
  coordinator.drop_replicas();
  stage("dedup");
  coordinator.plan();
  stage("global plan");
  coordinator.check();
  stage("validation");
  coordinator.write();
  stage("write");
  out.wire_out = bytes_of(coordinator.sent());
  clock.lap();
  out.metadata = metadata_bytes(coordinator, pulse);
  stage("metadata file");
  for (const columns::RankPlan& plan : coordinator.plans()) {
    Simulation::OfRank rank{static_cast<std::int64_t>(plan.view.size()), 0};
    for (std::size_t at = 0; at < plan.view.size(); ++at) {
      pulse.beat();
      if (!util::checked_add(rank.bytes, bytes_of_row(plan, at), rank.bytes)) {
        throw std::invalid_argument("the bytes of a rank do not fit int64");
      }
    }
    out.ranks.push_back(rank);
  }
  look_at(coordinator, tensor, out);
  return out;
}

std::uint64_t simulation_memory(std::span<const ImaginedTensor> tensors,
                                std::span<const std::int64_t> mesh_shape,
                                std::span<const std::vector<boxes::Placement>> layouts) {
  boxes::rank_count(mesh_shape);
  if (tensors.empty()) return 0;
  constexpr double kMost = 9e18;
  return static_cast<std::uint64_t>(std::min(kMost, World(tensors, mesh_shape, layouts).memory()));
}

}  // namespace shardplan::simulate
