#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/data/strided_copy.h"

namespace shardplan::data {

struct StoredTensor;

/// Read of a box of a stored tensor.
struct ReadRequest {
  std::uint32_t file = 0;   // index in the caller's files
  std::uint64_t begin = 0;  // bytes of the part in the file
  std::uint64_t length = 0;
  /// Description of the stored tensor, if it is known and lies in the part. Null if the part has
  /// to be read for it.
  const StoredTensor* stored = nullptr;
  std::span<const std::int64_t> offsets;  // the box within the stored tensor
  std::span<const std::int64_t> lengths;

  std::string_view dtype;          // of the target
  std::uint64_t element_size = 0;  // of the target
  /// Strided memory to read into. Null if the box goes through a StagingSink.
  char* target = nullptr;
  std::span<const std::int64_t> target_strides;  // in elements

  /// Returns the number of bytes that the target needs, or the maximum if that does not fit.
  std::uint64_t bytes_wanted() const;
};

/// Requests of one part.
struct PartTask {
  std::size_t first = 0;  // index in ReadSchedule::order
  std::size_t count = 0;
};

/// Neighbouring parts that are read into memory at once, or a single part that is not.
struct BlockTask {
  std::size_t first = 0;  // index in ReadSchedule::parts
  std::size_t count = 0;
  std::uint64_t begin = 0;  // bytes of the file that are read at once
  std::uint64_t length = 0;
  bool whole = false;  // true if the block is read into memory
};

/// Sizes of reads in bytes, which depend on what a read costs.
struct ReadSizes {
  /// A block that is read into memory.
  std::uint64_t max_block = 0;
  /// A part that is read into memory, if all of it is wanted, and if only some of it is.
  std::uint64_t max_whole_part = 0;
  std::uint64_t max_spare_part = 0;
  /// What is read at the head and at the tail of a larger part, to locate its tensor. Of a part
  /// that torch writes, 700 to 900 bytes are needed at each end; others take more reads.
  std::uint64_t part_end = 0;
  /// A page: bytes that are not wanted are read if they are less than a page that begins at a
  /// multiple of its size.
  std::uint64_t page = 1;
  /// A read of contiguous bytes, and a read of several runs.
  std::uint64_t max_read = 0;
  std::uint64_t max_scattered = 0;
  /// Wanted bytes for which one more thread pays.
  std::uint64_t thread = 1;
};

/// A local file: a read costs little, and the page cache reads pages. `max_read` is what is read
/// between two checks for an interrupt.
inline constexpr ReadSizes kFileSizes{
    .max_block = std::uint64_t{1} << 20,
    .max_whole_part = std::uint64_t{1} << 16,
    .max_spare_part = std::uint64_t{1} << 14,
    .part_end = std::uint64_t{1} << 10,
    .page = std::uint64_t{1} << 12,
    .max_read = std::uint64_t{1} << 24,
    .max_scattered = std::uint64_t{1} << 18,
    .thread = std::uint64_t{1} << 22,
};

/// Returns the sizes for a storage where a request takes as long as reading a megabyte, with at
/// most `max_request` bytes (at least 1 MiB) in a request.
ReadSizes request_sizes(std::uint64_t max_request);

/// Order of reads: by file, then by byte.
struct ReadSchedule {
  std::vector<std::size_t> order;  // indices of requests
  std::vector<PartTask> parts;
  std::vector<BlockTask> blocks;
};

/// Schedules requests, given in any order. Linear after a sort.
ReadSchedule schedule_reads(std::span<const ReadRequest> requests,
                            const ReadSizes& sizes = kFileSizes);

/// Bytes that are contiguous in the source and in the target.
struct Run {
  std::uint64_t source = 0;
  std::uint64_t target = 0;
};

/// One read of a file, and the runs that it has.
struct Read {
  std::uint64_t begin = 0;
  std::uint64_t length = 0;
  std::span<const Run> runs;
};

/// Calls `visit(read)` for the reads of a copy, in the order of the source. Runs share a read if no
/// whole page lies between them, so no page is read that has no wanted byte. A read of several runs
/// has at most `sizes.max_scattered` bytes. `runs` is working space.
template <class Visit>
void for_each_read(const StridedCopy& copy, const ReadSizes& sizes, std::vector<Run>& runs,
                   Visit&& visit) {
  constexpr std::size_t kMaxRuns = std::size_t{1} << 14;
  Read read;
  runs.clear();
  const auto flush = [&] {
    if (runs.empty()) return;
    read.runs = runs;
    visit(static_cast<const Read&>(read));
    runs.clear();
  };
  copy.for_each_run([&](std::uint64_t source, std::uint64_t target) {
    const std::uint64_t end = read.begin + read.length;
    const bool joins = !runs.empty() && runs.size() < kMaxRuns && source >= read.begin &&
                       source / sizes.page <= (end + sizes.page - 1) / sizes.page &&
                       source - read.begin + copy.run <= sizes.max_scattered;
    if (!joins) {
      flush();
      read.begin = source;
      read.length = 0;
    }
    runs.push_back({source, target});
    read.length = std::max(read.length, source - read.begin + copy.run);
  });
  flush();
}

/// Box within a box.
struct BoxPiece {
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> lengths;
};

/// Splits a box into pieces of at most `max_elements` elements (at least 1), in row-major order.
/// Each piece is contiguous in a row-major layout of the box.
std::vector<BoxPiece> split_box(std::span<const std::int64_t> lengths, std::uint64_t max_elements);

}  // namespace shardplan::data
