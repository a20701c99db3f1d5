#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/data/file.h"
#include "core/data/part_checker.h"
#include "core/data/read_schedule.h"

namespace shardplan::data {

/// Bytes of a request for a range of a file that is not local.
inline constexpr std::uint64_t kMaxCheckRequest = std::uint64_t{4} << 20;

struct CheckOptions {
  std::size_t threads = 1;  // at least 1
  ReadSizes sizes = kFileSizes;
  /// Called about every 50 ms on the calling thread. An exception ends the check.
  std::function<void(std::uint64_t bytes_done)> progress;
};

/// Returns the indices of parts that are not known to be sound (PartChecker::is_sound), in order.
///
/// Parts must be sorted by their first byte. Each is read once. Memory: per thread, a block and
/// what `ZipPart` needs.
std::vector<std::size_t> find_unsound(std::shared_ptr<const Source> source,
                                      std::span<const ExpectedPart> parts,
                                      const CheckOptions& options);

/// Parts of two files that hold the same box of a tensor.
struct PartPair {
  std::uint32_t file_a = 0;  // indices in the caller's files
  std::uint32_t file_b = 0;
  ExpectedPart a;
  ExpectedPart b;
};

/// Opens a file by its number. Called by any thread. Throws std::system_error.
using OpenFile = std::function<std::shared_ptr<const Source>(std::uint32_t file)>;

/// Returns the indices of pairs that are not known to be equal, in order: both parts are sound,
/// have the same layout, and their elements the same bytes. Parts are read up to twice.
std::vector<std::size_t> find_unequal(const OpenFile& open, std::span<const PartPair> pairs,
                                      const CheckOptions& options);

}  // namespace shardplan::data
