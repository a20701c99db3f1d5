#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/inspect/checkpoint.h"

namespace shardplan::inspect {

/// The parts in one file, according to the metadata.
struct FileUsage {
  std::size_t items = 0;   // parts in the file; 0 for a text that is the path of no part
  std::int64_t bytes = 0;  // sum of their lengths
  std::int64_t end = 0;    // byte offset after the last of them
};

/// Returns the usage of each text of `locations().paths`. Rows that another row replaces are not
/// counted. Sums of hostile numbers wrap; `check_storage` reports numbers that are out of range.
std::vector<FileUsage> file_usage(const Checkpoint& checkpoint);

/// Returns the number of bytes in files of each entry; sums wrap as in `file_usage`.
std::vector<std::int64_t> stored_bytes(const Checkpoint& checkpoint);

}  // namespace shardplan::inspect
