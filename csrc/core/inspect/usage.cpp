#include "core/inspect/usage.h"

#include <algorithm>

#include "core/util/checked.h"

namespace shardplan::inspect {

std::vector<FileUsage> file_usage(const Checkpoint& checkpoint) {
  const columns::StorageRows& locations = checkpoint.locations();
  std::vector<FileUsage> files(locations.paths->size());
  for (std::size_t row = 0; row < locations.size(); ++row) {
    if (checkpoint.is_replaced(row)) continue;
    FileUsage& file = files[locations.path[row]];
    ++file.items;
    file.bytes = util::wrapping_add(file.bytes, locations.length[row]);
    file.end = std::max(file.end, util::wrapping_add(locations.begin[row], locations.length[row]));
  }
  return files;
}

std::vector<std::int64_t> stored_bytes(const Checkpoint& checkpoint) {
  const columns::SavedChunks& saved = checkpoint.chunks();
  std::vector<std::int64_t> bytes(saved.size());
  const auto add = [&](std::size_t entry, std::uint32_t row) {
    if (row == Checkpoint::kNowhere) return;
    bytes[entry] = util::wrapping_add(bytes[entry], checkpoint.locations().length[row]);
  };
  for (std::size_t entry = 0; entry < saved.size(); ++entry) {
    if (!columns::writes_tensor(checkpoint.kind(entry))) {
      add(entry, checkpoint.location_of_object(entry));
    }
    for (std::size_t at = saved.begin[entry]; at < saved.begin[entry + 1]; ++at) {
      add(entry, checkpoint.location_of_chunk(at));
    }
  }
  return bytes;
}

}  // namespace shardplan::inspect
