// Reads metadata files. Any file is read or rejected with BadPickle; metadata that was read can be
// inspected, checked and used for reshard costs.

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "core/inspect/checkpoint.h"
#include "core/inspect/reshard_cost.h"
#include "core/inspect/storage_faults.h"
#include "core/metadata/plan_reader.h"
#include "fuzz_input.h"

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
    inspect::reshard_cost(checkpoint, mesh, layouts, std::vector<std::uint32_t>(entries),
                          std::vector<std::int64_t>(entries, 4));
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
