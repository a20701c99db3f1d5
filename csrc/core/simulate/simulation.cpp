#include "core/simulate/simulation.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/boxes/mesh.h"
#include "core/metadata/metadata_writer.h"
#include "core/planning/coordinator.h"
#include "core/util/checked.h"
#include "core/util/clock.h"

namespace shardplan::simulate {
namespace {

// Approximate numbers of bytes: what torch.save adds to the data of a tensor, a TensorProperties in
// a metadata file, and a mapping in it beside its name, which is written twice.
constexpr std::int64_t kPartOverhead = 1'100;
constexpr std::size_t kProperties = 25;
constexpr std::size_t kMapping = 15;

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
  for (std::size_t dim = 0; dim < ndim; ++dim)
    bytes *= sizes[dim];  // fits, as the whole tensor does
  return bytes;
}

/// Returns the size of the metadata file of the global plan. The file is written block by block,
/// and each block is dropped.
std::size_t metadata_bytes(const ReceivedPlans& received, const planning::Coordinator& coordinator,
                           const util::Pulse& pulse) {
  columns::SavedChunks chunks;
  columns::StorageRows locations;
  const auto names = std::make_shared<util::TextTable>();
  const auto paths = std::make_shared<util::TextTable>();
  std::vector<std::int64_t> written(coordinator.plans().size());
  for (const planning::SavedEntry& entry : coordinator.global().entries) {
    const columns::RankPlan& first = coordinator.plans()[entry.first.plan];
    const auto shape = first.view.shape(entry.first.position);
    const auto name = names->number_of(received.table().names.names[entry.name]);
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
          bytes_of_row(coordinator.plans()[row.plan], row.position) + kPartOverhead;
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
  // The size of the file does not depend on which of its first slots the memo uses.
  constexpr metadata::MetadataMemo kMemo;
  constexpr std::uint32_t kFirstName = 16;
  for (const util::TextTable* texts : {names.get(), paths.get()}) {
    for (std::size_t text = 0; text < texts->size(); ++text) out.text((*texts)[text]);
  }
  for (const std::string& name : received.table().names.names) {
    bytes += 2 * name.size() + kMapping;
  }
  metadata::EntryPickles pickles;
  pickles.first_name = kFirstName;
  pickles.properties.assign(received.table().properties.size(), std::string(kProperties, ' '));
  metadata::write_entries(out, kMemo, chunks, pickles);
  metadata::write_storage(out, kMemo, locations, kFirstName,
                          kFirstName + static_cast<std::uint32_t>(names->size()));
  out.stop();
  return bytes;
}

/// Adds the chunks of the selected tensor.
void add_chunks(const planning::Coordinator& coordinator, std::size_t tensor, Simulation& out) {
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

Simulation simulate_save(std::span<const SimulatedTensor> tensors,
                         std::span<const std::int64_t> mesh_shape,
                         std::span<const std::vector<boxes::Placement>> layouts,
                         planning::Keeper keeper, std::size_t selected, const util::Pulse& pulse) {
  const std::size_t ranks = boxes::rank_count(mesh_shape);
  const World world(tensors, mesh_shape, layouts);
  Simulation out;
  out.items = ranks * tensors.size();
  util::Clock clock;
  const auto stage = [&](const char* name) { out.stages.emplace_back(name, clock.lap()); };
  std::vector<std::string> plans = world.plans(pulse);
  stage("local plans");
  out.wire_in = bytes_of(plans);
  clock.lap();
  const ReceivedPlans received(std::move(plans), world.element_sizes(), pulse);
  planning::Coordinator coordinator(received.ranks(), received.name_count(), pulse);
  stage("read");
  if (!coordinator.drop_replicas(keeper, ascending)) {
    throw std::runtime_error("the bytes of a plan do not fit int64");
  }
  stage("dedup");
  if (!coordinator.plan()) throw std::runtime_error("a name is written twice");
  stage("global plan");
  const std::vector<std::uint32_t> invalid = coordinator.invalid_entries();
  if (!invalid.empty()) {
    const std::uint32_t name = coordinator.global().entries[invalid.front()].name;
    throw std::runtime_error("the chunks of " + received.table().names.names[name] +
                             " do not cover it exactly once");
  }
  stage("validation");
  out.wire_out = bytes_of(received.encode(coordinator, pulse));
  stage("write");
  out.metadata = metadata_bytes(received, coordinator, pulse);
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
  add_chunks(coordinator, selected, out);
  return out;
}

std::uint64_t simulation_memory(std::span<const SimulatedTensor> tensors,
                                std::span<const std::int64_t> mesh_shape,
                                std::span<const std::vector<boxes::Placement>> layouts) {
  boxes::rank_count(mesh_shape);
  if (tensors.empty()) return 0;
  constexpr double kMost = 9e18;
  return static_cast<std::uint64_t>(std::min(kMost, World(tensors, mesh_shape, layouts).memory()));
}

}  // namespace shardplan::simulate
