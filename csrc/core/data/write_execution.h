#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "core/data/file.h"
#include "core/data/part_format.h"

namespace shardplan::data {

/// A part to be written.
struct WriteRequest {
  const PartEnds* ends = nullptr;
  std::uint64_t begin = 0;  // byte offset of the part in the file
  /// The `ends->data_size()` bytes of the tensor's storage. Null if a StagingSource has them.
  const char* data = nullptr;
};

/// Provides the bytes of tensors that are not in plain memory: those on another device, or whose
/// elements have to be gathered. Each thread has its own.
class StagingSource {
 public:
  StagingSource() = default;
  virtual ~StagingSource() = default;
  StagingSource(const StagingSource&) = delete;
  StagingSource& operator=(const StagingSource&) = delete;

  /// Begins with the data of a request.
  virtual void start(std::size_t request) = 0;
  /// Returns the next bytes, at least one and at most as many as are left. They stay until the next
  /// call.
  virtual std::string_view next() = 0;
};

struct WriteOptions {
  std::size_t threads = 1;  // at least 1
  bool checksums = true;    // of data; otherwise they are written as 0
  /// Creates the source of a thread.
  std::function<std::unique_ptr<StagingSource>()> make_source;
  /// Called about every 50 ms on the calling thread, with the bytes of data that have been written
  /// or are being written. An exception ends the save.
  std::function<void(std::uint64_t bytes_done)> progress;
};

/// What ended a save; `error` is null if nothing did.
struct WriteResult {
  std::exception_ptr error;
  std::size_t failed = 0;  // the request that was being written, or the number of requests
};

/// Writes parts to a file. The parts must not overlap; those of a sequential file must follow one
/// another, and the calling thread writes them all. Threads end before the call returns.
///
/// Memory, per thread: 2 MiB, and what its source has.
WriteResult write(const Output& file, std::span<const WriteRequest> requests,
                  const WriteOptions& options);

}  // namespace shardplan::data
