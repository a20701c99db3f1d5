#include "core/inspect/storage_faults.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <tuple>

#include "core/util/checked.h"

namespace shardplan::inspect {
namespace {

void find_parts_without_location(const Checkpoint& checkpoint, StorageFaults& faults) {
  std::vector<bool> claimed(checkpoint.locations().size());
  const auto claim = [&](std::uint32_t row) {
    if (row == Checkpoint::kNowhere) return false;
    claimed[row] = true;
    return true;
  };
  const columns::SavedChunks& saved = checkpoint.chunks();
  for (std::size_t chunk = 0; chunk < saved.begin.back(); ++chunk) {
    if (!claim(checkpoint.location_of_chunk(chunk)))
      faults.chunks_without_location.push_back(chunk);
  }
  for (std::size_t entry = 0; entry < saved.size(); ++entry) {
    if (checkpoint.kind(entry) == columns::WriteKind::kBytes &&
        !claim(checkpoint.location_of_object(entry))) {
      faults.objects_without_location.push_back(entry);
    }
  }
  for (std::size_t row = 0; row < claimed.size(); ++row) {
    if (!claimed[row] && !checkpoint.is_replaced(row)) faults.unclaimed.push_back(row);
  }
}

/// Finds rows that share bytes, in the order of files and offsets.
void find_shared(const Checkpoint& checkpoint, StorageFaults& faults) {
  const columns::StorageRows& rows = checkpoint.locations();
  std::vector<std::size_t> order;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const bool is_read = !checkpoint.is_replaced(row);
    if (is_read && rows.begin[row] >= 0 && rows.length[row] > 0) order.push_back(row);
  }
  const auto key = [&](std::size_t row) {
    return std::tuple(rows.path[row], rows.begin[row], row);
  };
  const auto before = [&](std::size_t a, std::size_t b) { return key(a) < key(b); };
  if (!std::ranges::is_sorted(order, before)) std::ranges::sort(order, before);
  const auto end_of = [&](std::size_t row) {
    std::int64_t end = 0;
    return util::checked_add(rows.begin[row], rows.length[row], end) ? end : INT64_MAX;
  };
  std::size_t furthest = 0;  // the earlier row of the same file that ends last
  for (std::size_t at = 1; at < order.size(); ++at) {
    const std::size_t row = order[at];
    const std::size_t last = order[furthest];
    if (rows.path[row] != rows.path[last]) {
      furthest = at;
      continue;
    }
    if (rows.begin[row] < end_of(last)) faults.shared.emplace_back(last, row);
    if (end_of(row) > end_of(last)) furthest = at;
  }
}

}  // namespace

StorageFaults check_storage(const Checkpoint& checkpoint,
                            std::span<const std::int64_t> file_sizes) {
  const columns::StorageRows& rows = checkpoint.locations();
  if (file_sizes.size() != rows.paths->size()) {
    throw std::invalid_argument("there is one file size a text of a checkpoint's paths");
  }
  StorageFaults faults;
  find_parts_without_location(checkpoint, faults);
  faults.repeated.assign(checkpoint.repeated().begin(), checkpoint.repeated().end());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (checkpoint.is_replaced(row)) continue;
    const std::int64_t size = file_sizes[rows.path[row]];
    std::int64_t end = 0;
    if (size < 0) {
      faults.no_file.push_back(row);
    } else if (rows.begin[row] < 0 || rows.length[row] < 0 ||
               !util::checked_add(rows.begin[row], rows.length[row], end) || end > size) {
      faults.beyond_end.push_back(row);
    }
  }
  find_shared(checkpoint, faults);
  return faults;
}

}  // namespace shardplan::inspect
