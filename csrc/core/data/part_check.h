#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "core/data/file.h"
#include "core/data/read_schedule.h"

namespace shardplan::data {

/// Part of a file, as the metadata of its checkpoint describes it.
struct ExpectedPart {
  std::uint64_t begin = 0;  // bytes of the part in the file
  std::uint64_t length = 0;
  bool is_tensor = false;
  std::span<const std::int64_t> shape;  // of a tensor
  std::string_view dtype;               // of a tensor; empty if it is unknown
};

struct CheckOptions {
  std::size_t threads = 1;  // at least 1
  ReadSizes sizes = kFileSizes;
  /// Called about every 50 ms on the calling thread. An exception ends the check.
  std::function<void(std::uint64_t bytes_done)> progress;
};

/// Returns the indices of parts that are not known to be sound, in order. A part is sound if it is
/// a zip file with checksums, all of which are right, and, for a tensor, has the shape and dtype.
///
/// Parts must be sorted by their first byte. Each is read once, in time and memory that are bounded
/// by its length: per thread, a block and what `ZipPart` needs.
std::vector<std::size_t> find_unsound(const Source& source, std::span<const ExpectedPart> parts,
                                      const CheckOptions& options);

}  // namespace shardplan::data
