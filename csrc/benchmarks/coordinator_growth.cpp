// Measures how the time and memory of the coordinator grow with the number of ranks, without
// Python: from the encoded plan of every rank to the encoded global plans, for Llama 3 405B with
// Adam under FSDP.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/boxes/layout.h"
#include "core/planning/coordinator.h"
#include "core/simulate/world.h"
#include "core/util/clock.h"
#include "core/wire/save_plan.h"

namespace shardplan::benchmarks {
namespace {

using Shape = std::vector<std::int64_t>;

/// Llama 3 405B with Adam, as `with_adam(llama(LLAMA3_405B))` of benchmarks/workloads.
std::vector<simulate::SimulatedTensor> llama_405b_with_adam() {
  constexpr std::int64_t kDim = 16'384;
  constexpr std::int64_t kHidden = 53'248;
  constexpr std::int64_t kKv = 1'024;
  constexpr std::int64_t kVocabulary = 128'256;
  const std::vector<std::pair<const char*, Shape>> of_layer = {
      {"attention.wq", {kDim, kDim}},
      {"attention.wk", {kKv, kDim}},
      {"attention.wv", {kKv, kDim}},
      {"attention.wo", {kDim, kDim}},
      {"feed_forward.w1", {kHidden, kDim}},
      {"feed_forward.w2", {kDim, kHidden}},
      {"feed_forward.w3", {kHidden, kDim}},
      {"attention_norm", {kDim}},
      {"ffn_norm", {kDim}},
  };
  std::vector<std::pair<std::string, Shape>> parameters;
  parameters.emplace_back("tok_embeddings.weight", Shape{kVocabulary, kDim});
  for (int layer = 0; layer < 126; ++layer) {
    for (const auto& [name, shape] : of_layer) {
      parameters.emplace_back("layers." + std::to_string(layer) + "." + name + ".weight", shape);
    }
  }
  parameters.emplace_back("norm.weight", Shape{kDim});
  parameters.emplace_back("output.weight", Shape{kVocabulary, kDim});

  std::vector<simulate::SimulatedTensor> model;
  const auto add = [&](const std::string& name, const Shape& shape) {
    model.push_back({name, shape, "float32", 4, 0});
  };
  for (const auto& [name, shape] : parameters) add("model." + name, shape);
  for (const auto& [name, shape] : parameters) {
    add("optim.state." + name + ".exp_avg", shape);
    add("optim.state." + name + ".exp_avg_sq", shape);
  }
  return model;
}

void expect(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/// The most bytes that this process has held.
double peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return static_cast<double>(usage.ru_maxrss);
#else
  return static_cast<double>(usage.ru_maxrss) * 1024;
#endif
}

/// Checks that every shard with elements is written, that a tensor with empty shards has one of
/// them, that the shards of the last rank are the last chunks, and that the plans sent say so.
void verify(const planning::Coordinator& coordinator, const columns::SaveTable& table,
            const std::vector<std::string>& sent) {
  const auto ranks = static_cast<std::int64_t>(coordinator.plans().size());
  expect(coordinator.global().entries.size() == table.size(), "a tensor is not in the global plan");
  for (const planning::SavedEntry& entry : coordinator.global().entries) {
    const std::int64_t length = table.specs.shape(table.spec[entry.name])[0];
    const std::int64_t rows_of_shard = (length + ranks - 1) / ranks;
    const std::int64_t full = (length + rows_of_shard - 1) / rows_of_shard;
    expect(static_cast<std::int64_t>(entry.end - entry.begin) == full + (full < ranks ? 1 : 0),
           "the chunks of a tensor are not its shards");
  }
  const wire::ReceivedRows last = simulate::decode_plan(sent.back(), table);
  expect(last.chunk_indices == coordinator.global().chunk_indices.back(),
         "the plan that was sent is not the global plan");
  for (std::size_t row = 0; row < last.rows.size(); ++row) {
    const auto shape = table.specs.shape(table.spec[last.rows.entry[row]]);
    const bool empty = last.rows.numbers[last.rows.first[row] + shape.size()] == 0;
    expect(empty || last.chunk_indices[row] == ranks - 1, "the last shard is not the last chunk");
  }
}

/// Prints the row of the table for this many ranks.
void measure(std::int64_t ranks) {
  const std::vector<std::int64_t> mesh_shape = {ranks};
  const std::vector<std::vector<boxes::Placement>> layouts = {
      {{boxes::Placement::Kind::kShard, 0}}};
  const simulate::World world(llama_405b_with_adam(), mesh_shape, layouts);
  std::vector<std::string> arrived = world.plans();
  std::size_t wire = 0;
  for (const std::string& plan : arrived) wire += plan.size();
  const double items = static_cast<double>(world.table().table.size()) * static_cast<double>(ranks);

  util::Clock clock;
  const simulate::ReceivedPlans received(std::move(arrived), world.element_sizes());
  planning::Coordinator coordinator(received.ranks(), received.name_count());
  const double read = clock.lap();
  expect(coordinator.drop_replicas(planning::Keeper::kFewestBytes, simulate::ascending),
         "the bytes do not fit int64");
  const double dedup = clock.lap();
  expect(coordinator.plan(), "a name is written twice");
  const double plan = clock.lap();
  expect(coordinator.invalid_entries().empty(), "the chunks of a tensor do not cover it");
  const double check = clock.lap();
  const std::vector<std::string> sent = received.encode(coordinator);
  const double write = clock.lap();
  const double peak = peak_memory();
  verify(coordinator, received.table().table, sent);

  const double all = read + dedup + plan + check + write;
  std::printf(
      "| %lld | %.0f | %.2f s | %.2f s | %.2f s | %.2f s | %.2f s | %.2f s | %.1f ns | %.2f GB | "
      "%.0f | %.0f MB |\n",
      static_cast<long long>(ranks), items, all, read, dedup, plan, check, write, all / items * 1e9,
      peak / 1e9, peak / items, static_cast<double>(wire) / 1e6);
  std::fflush(stdout);
}

/// Calls `measure` in a process of its own, whose peak of memory is its own.
bool measure_apart(std::int64_t ranks) {
  const pid_t child = fork();
  if (child == 0) {
    int status = EXIT_SUCCESS;
    try {
      measure(ranks);
    } catch (const std::exception& problem) {
      std::fprintf(stderr, "%lld ranks: %s\n", static_cast<long long>(ranks), problem.what());
      status = EXIT_FAILURE;
    }
    _exit(status);
  }
  int status = EXIT_FAILURE;
  return child > 0 && waitpid(child, &status, 0) == child && status == EXIT_SUCCESS;
}

}  // namespace
}  // namespace shardplan::benchmarks

int main(int count, char** arguments) {
  std::vector<std::int64_t> sizes;
  for (int at = 1; at < count; ++at) sizes.push_back(std::strtoll(arguments[at], nullptr, 10));
  if (count == 1) sizes = {1'024, 2'048, 4'096, 8'192, 16'384};
  std::puts(
      "| ranks | items | in all | read | dedup | global plan | check | write | an item | peak | "
      "bytes an item | wire in |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|");
  std::fflush(stdout);
  for (const std::int64_t ranks : sizes) {
    if (ranks < 1) {
      std::fputs("usage: coordinator_growth [RANKS ...]\n", stderr);
      return EXIT_FAILURE;
    }
    if (!shardplan::benchmarks::measure_apart(ranks)) return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
