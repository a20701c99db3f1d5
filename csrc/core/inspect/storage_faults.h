#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/inspect/checkpoint.h"

namespace shardplan::inspect {

/// What is wrong with where the parts of a checkpoint lie. Chunks are numbered through all entries.
struct StorageFaults {
  std::vector<std::size_t> chunks_without_location;   // storage_data does not have them
  std::vector<std::size_t> objects_without_location;  // entries, likewise
  std::vector<std::size_t> unclaimed;                 // rows that no entry has
  std::vector<std::size_t> no_file;                   // rows whose file does not exist
  std::vector<std::size_t> beyond_end;                // rows that begin or end outside their file
  std::vector<std::pair<std::size_t, std::size_t>> shared;  // rows that share bytes of a file
  /// Rows whose key comes again, and the row that is read instead. Nothing else is said of them.
  std::vector<std::pair<std::size_t, std::size_t>> repeated;
};

/// Checks the places of a checkpoint. n log n in its rows.
///
/// file_sizes: a text of `locations().paths` -> the file's bytes; below 0 for none
StorageFaults check_storage(const Checkpoint& checkpoint, std::span<const std::int64_t> file_sizes);

}  // namespace shardplan::inspect
