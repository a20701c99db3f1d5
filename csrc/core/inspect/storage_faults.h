#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/inspect/checkpoint.h"

namespace shardplan::inspect {

/// The faults of the locations of a checkpoint. Chunks are numbered across all entries.
struct StorageFaults {
  std::vector<std::size_t> chunks_without_location;   // chunks that storage_data does not have
  std::vector<std::size_t> objects_without_location;  // entries that it does not have
  std::vector<std::size_t> unclaimed;                 // rows of no entry
  std::vector<std::size_t> no_file;                   // rows whose file does not exist
  std::vector<std::size_t> beyond_end;                // rows that begin or end outside their file
  std::vector<std::pair<std::size_t, std::size_t>> shared;  // rows that share bytes of a file
  /// Pairs of a row whose key occurs again and the row that replaces it. Replaced rows are not
  /// checked further.
  std::vector<std::pair<std::size_t, std::size_t>> repeated;
};

/// Checks the locations of a checkpoint, in time n log n in its rows.
///
/// file_sizes: bytes of the file of each text of `locations().paths`; negative if it does not exist
StorageFaults check_storage(const Checkpoint& checkpoint, std::span<const std::int64_t> file_sizes);

}  // namespace shardplan::inspect
