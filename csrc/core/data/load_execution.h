#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/file.h"
#include "core/data/read_schedule.h"
#include "core/util/pulse.h"

namespace shardplan::data {

/// Copies boxes into targets that cannot be written as strided memory: those of another dtype, or
/// on another device. Each thread has its own.
class StagingSink {
 public:
  StagingSink() = default;
  virtual ~StagingSink() = default;
  StagingSink(const StagingSink&) = delete;
  StagingSink& operator=(const StagingSink&) = delete;

  /// Returns whether the sink can convert elements of a dtype to those of the request's target.
  virtual bool accepts(std::size_t request, std::string_view stored_dtype) const = 0;
  /// Returns the size of a buffer in bytes.
  virtual std::size_t capacity() const = 0;
  /// Returns a buffer that no copy uses any more, for the target of a request.
  virtual char* buffer(std::size_t request) = 0;
  /// Copies `piece` of a request's box from the last buffer. The buffer has its elements in
  /// row-major order, in the dtype in which they are stored. May return before the copy is done.
  virtual void copy(std::size_t request, std::string_view stored_dtype, const BoxPiece& piece) = 0;
  /// Waits for all copies, as the destructor does.
  virtual void finish() = 0;
};

inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

struct LoadOptions {
  std::size_t threads = 1;  // at least 1
  bool verify = false;      // compare the checksums of all parts
  ReadSizes sizes = kFileSizes;
  /// Maximum number of bytes that threads ask for at the same time, if the source lends them. A
  /// read of more is made alone.
  std::uint64_t max_in_flight = kUnlimited;
  /// Opens a file by its number. Called by any thread, again if no thread has the file open any
  /// more. Throws std::system_error.
  std::function<std::shared_ptr<const Source>(std::uint32_t file)> open;
  /// Creates the sink of a thread.
  std::function<std::unique_ptr<StagingSink>()> make_sink;
  /// Called about every 50 ms on the calling thread. An exception ends the load.
  std::function<void(std::uint64_t bytes_done, std::uint64_t bytes_wanted)> progress;
};

enum class Outcome : std::uint8_t {
  kUnreached,  // the load ended earlier
  kBegun,      // the load ended while the target was written
  kRead,
  kUnread,  // native code does not read this part; nothing was written
};

/// Request that was not read, and why.
struct UnreadRequest {
  std::size_t request = 0;
  std::string why;  // a predicate without a subject
};

struct LoadResult {
  std::vector<Outcome> outcomes;  // per request
  std::vector<UnreadRequest> unread;

  /// What ended the load; null if nothing did. `failed` is the request that was being read, or the
  /// number of requests.
  std::exception_ptr error;
  std::size_t failed = 0;

  std::uint64_t bytes_wanted = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t reads = 0;
};

/// Reads boxes of stored tensors into their targets. Threads end before the call returns, and
/// targets are complete then.
///
/// Memory beyond the targets, per thread: a block, a read of several runs, about 1 MiB of working
/// space, and the buffers of its sink. If the source lends its bytes: `max_in_flight` for all
/// threads, in place of blocks and runs.
LoadResult load(std::span<const ReadRequest> requests, const LoadOptions& options);

}  // namespace shardplan::data
