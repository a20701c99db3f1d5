// Reads metadata files. Any file is read or rejected with BadPickle; metadata that was read can be
// inspected, checked and used for reshard costs. Files change by opcodes as well as by bytes.

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/inspect/checkpoint.h"
#include "core/inspect/reshard_cost.h"
#include "core/inspect/reshard_schedule.h"
#include "core/inspect/storage_faults.h"
#include "core/metadata/plan_reader.h"
#include "fuzz_input.h"
#include "pickle_mutator.h"

namespace shardplan::fuzz {
namespace {

pickle::Source source_of(std::string_view bytes, std::size_t at_once) {
  return [bytes, at_once](char* into, std::size_t at_most) mutable {
    const std::size_t count = std::min({at_once, at_most, bytes.size()});
    std::memcpy(into, bytes.data(), count);
    bytes.remove_prefix(count);
    return count;
  };
}

void inspect_all(const inspect::Checkpoint& checkpoint) {
  checkpoint.remarks();
  checkpoint.parts_of_locations();
  const std::size_t entries = checkpoint.chunks().size();
  for (std::size_t entry = 0; entry < entries; ++entry) {
    checkpoint.name(entry);
    checkpoint.dtype(entry);
  }
  const std::vector<std::int64_t> sizes(checkpoint.locations().paths->size(), 1'000);
  inspect::check_storage(checkpoint, sizes);
  const std::vector<std::int64_t> mesh = {2, 2};
  const std::vector<std::vector<boxes::Placement>> layouts = {
      {{boxes::Placement::Kind::kShard, 0, 1}, {boxes::Placement::Kind::kShard, 1, 1}}};
  try {
    const std::vector<std::uint32_t> layout_of(entries);
    const std::vector<std::int64_t> element_sizes(entries, 4);
    inspect::reshard_cost(checkpoint, mesh, layouts, layout_of, element_sizes);
    inspect::reshard_schedule(checkpoint, mesh, layouts, layout_of, element_sizes, 2);
  } catch (const std::invalid_argument&) {
    // Sums that do not fit int64.
  }
}

void run(Input input) {
  const std::size_t at_once = input.byte() + std::size_t{1};
  const std::string_view bytes = input.rest();
  try {
    const pickle::Pickle pickle = pickle::read_pickle(source_of(bytes, at_once));
    const auto texts = std::make_shared<const util::TextTable>(pickle.values.texts);
    metadata::read_pickled_metadata(pickle, texts);
    metadata::read_pickled_plans(pickle, *texts);
    inspect_all(inspect::Checkpoint(source_of(bytes, bytes.size())));
  } catch (const pickle::BadPickle&) {
  }
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

/// Copies a mutated file into `out` and returns its size. The first byte is the read size.
std::size_t mutate(const std::uint8_t* data, std::size_t size, std::string_view other,
                   std::uint8_t* out, std::size_t max_size, std::uint32_t seed) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string changed =
      std::string(bytes.substr(0, 1)) +
      shardplan::fuzz::mutated_pickle(bytes.substr(1), other.substr(1), seed);
  const std::size_t count = std::min(changed.size(), max_size);
  std::memcpy(out, changed.data(), count);
  return count;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned int seed) {
  if (size < 2 || seed % 2 == 0) return LLVMFuzzerMutate(data, size, max_size);
  return mutate(data, size, "-", data, max_size, seed / 2);
}

extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* one, std::size_t size_of_one,
                                                 const std::uint8_t* other,
                                                 std::size_t size_of_other, std::uint8_t* out,
                                                 std::size_t max_size, unsigned int seed) {
  if (size_of_one < 2 || size_of_other < 2) return 0;
  const std::string_view from(reinterpret_cast<const char*>(other), size_of_other);
  return mutate(one, size_of_one, from, out, max_size, seed);
}
