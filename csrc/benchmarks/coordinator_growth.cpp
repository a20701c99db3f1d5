// How the coordinator's time and memory grow with the ranks, in the columns alone: no Python, no
// object made. Llama 3 405B with Adam under FSDP, wire bytes of every rank in, wire bytes out.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/boxes/layout.h"
#include "core/columns/plan.h"
#include "core/planning/coordinator.h"
#include "core/util/clock.h"
#include "core/wire/envelope.h"
#include "core/wire/save_plan.h"

namespace shardplan::benchmarks {
namespace {

using Shape = std::vector<std::int64_t>;

constexpr std::string_view kRelease = "growth";
constexpr std::int64_t kElementSize = 4;  // float32

/// A table of sharded tensors, entry i of name i.
class Model {
 public:
  /// As `with_adam(llama(LLAMA3_405B))` of benchmarks/workloads.
  static Model llama_405b_with_adam() {
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

    Model model;
    for (const auto& [name, shape] : parameters) model.add("model." + name, shape);
    for (const auto& [name, shape] : parameters) {
      model.add("optim.state." + name + ".exp_avg", shape);
      model.add("optim.state." + name + ".exp_avg_sq", shape);
    }
    return model;
  }

  const wire::NamedTable& table() const { return table_; }

  /// What a rank sends: its shards of dim 0, the last ones shorter or empty, as torch chunks.
  std::string plan_of(std::int64_t rank, std::int64_t ranks, std::string_view table_bytes) const {
    const boxes::Placement placement{boxes::Placement::Kind::kShard, 0};
    const columns::EntrySpecs& specs = table_.table.specs;
    columns::SaveRows rows;
    for (std::uint32_t entry = 0; entry < table_.table.size(); ++entry) {
      const auto shape = specs.shape(table_.table.spec[entry]);
      std::int64_t* numbers = rows.push(entry, shape.size());
      if (!boxes::local_box(shape, {&ranks, 1}, {&rank, 1}, {&placement, 1}, numbers,
                            numbers + shape.size())) {
        throw std::logic_error("a shard has no box");
      }
    }
    const std::string bytes = wire::write_rows({&table_.table, &rows});
    return wire::seal(wire::WireKind::kSavePlan, kRelease, {rows.size(), table_bytes, bytes});
  }

 private:
  Model() { table_.properties = {"float32"}; }

  /// Adds a tensor, whose path in the state dict is one key: its whole name.
  void add(const std::string& name, const Shape& shape) {
    const wire::PathShape path = {{static_cast<std::uint32_t>(wire::count_parts(name)), false}};
    const auto known = std::ranges::find(table_.names.shapes, path);
    table_.names.shape_of_name.push_back(
        static_cast<std::uint32_t>(known - table_.names.shapes.begin()));
    if (known == table_.names.shapes.end()) table_.names.shapes.push_back(path);
    table_.table.name.push_back(static_cast<std::uint32_t>(table_.names.names.size()));
    table_.names.names.push_back(name);
    table_.table.spec.push_back(table_.table.specs.push(columns::WriteKind::kShard, 0, shape));
  }

  wire::NamedTable table_;
};

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

/// That every shard with elements is written, of those without one a tensor; that the last rank's
/// are the last chunks; and that what is sent says so.
void verify(const planning::Coordinator& coordinator) {
  const columns::SaveTable& table = coordinator.table().table;
  const auto ranks = static_cast<std::int64_t>(coordinator.plans().size());
  expect(coordinator.global().entries.size() == table.size(), "not every tensor is in the plan");
  for (const planning::SavedEntry& entry : coordinator.global().entries) {
    const std::int64_t length = table.specs.shape(table.spec[entry.name])[0];
    const std::int64_t a_shard = (length + ranks - 1) / ranks;
    const std::int64_t full = (length + a_shard - 1) / a_shard;
    expect(static_cast<std::int64_t>(entry.end - entry.begin) == full + (full < ranks ? 1 : 0),
           "a tensor has other chunks than its shards");
  }
  const wire::Envelope last =
      wire::open(wire::WireKind::kSavePlan, kRelease, coordinator.sent().back());
  const wire::ReceivedRows arrived = wire::read_rows(last.rows, last.items, table);
  expect(arrived.chunk_indices == coordinator.global().chunk_indices.back(),
         "what was sent is not the plan");
  for (std::size_t row = 0; row < arrived.rows.size(); ++row) {
    const auto shape = table.specs.shape(table.spec[arrived.rows.entry[row]]);
    const bool empty = arrived.rows.numbers[arrived.rows.first[row] + shape.size()] == 0;
    expect(empty || arrived.chunk_indices[row] == ranks - 1,
           "the last shard is not the last chunk");
  }
}

/// Prints the row of the table for this many ranks.
void measure(std::int64_t ranks) {
  const Model model = Model::llama_405b_with_adam();
  const std::string table = wire::write_table(model.table());
  std::vector<std::string> arrived;
  std::size_t wire = 0;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    arrived.push_back(model.plan_of(rank, ranks, table));
    wire += arrived.back().size();
  }
  const double items = static_cast<double>(model.table().table.size()) * static_cast<double>(ranks);

  const util::Pulse pulse;
  planning::Coordinator coordinator(std::move(arrived), std::string(kRelease), {kElementSize},
                                    pulse);
  util::Clock clock;
  coordinator.read();
  const double read = clock.lap();
  coordinator.drop_replicas();
  const double dedup = clock.lap();
  coordinator.plan();
  const double plan = clock.lap();
  coordinator.check();
  const double check = clock.lap();
  coordinator.write();
  const double write = clock.lap();
  const double peak = peak_memory();
  verify(coordinator);

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
