#include "core/data/write_execution.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/data/crc32.h"
#include "core/util/pulse.h"
#include "core/util/threads.h"

namespace shardplan::data {
namespace {

/// Bytes that are gathered, and then written at once.
constexpr std::size_t kGathered = std::size_t{1} << 20;
/// Data of more bytes are written from where they are.
constexpr std::size_t kMaxCopied = std::size_t{1} << 15;
/// Bytes that are in the cache of the CPU when they are written, because their checksum has just
/// been computed.
constexpr std::size_t kCached = std::size_t{1} << 20;
/// Starting a thread takes as long as writing some megabytes.
constexpr std::uint64_t kThreadBytes = std::uint64_t{1} << 22;

/// Requests that one thread writes, one after another.
struct Block {
  std::size_t first = 0;
  std::size_t count = 0;
};

std::vector<Block> blocks_of(std::span<const WriteRequest> requests) {
  std::vector<Block> blocks;
  std::uint64_t bytes = kGathered;
  for (std::size_t at = 0; at < requests.size(); ++at) {
    const std::uint64_t size = requests[at].ends->size();
    const bool follows =
        at > 0 && requests[at].begin == requests[at - 1].begin + requests[at - 1].ends->size();
    if (!follows || bytes >= kGathered) {
      blocks.push_back({at, 0});
      bytes = 0;
    }
    ++blocks.back().count;
    bytes += size;
  }
  return blocks;
}

/// What the threads of a save share.
struct Save {
  const Output& file;
  std::span<const WriteRequest> requests;
  const WriteOptions& options;
  std::vector<Block> blocks;
  std::atomic<std::size_t> next_block = 0;
  std::atomic<std::uint64_t> bytes_done = 0;
  std::atomic<bool> stopped = false;
  std::mutex mutex;
  WriteResult result;

  void fail(std::size_t request, std::exception_ptr error) {
    const std::scoped_lock lock(mutex);
    if (stopped.exchange(true)) return;
    result = {std::move(error), request};
  }
};

/// A thread of a save.
class Worker {
 public:
  /// `pulse` is null except on the calling thread.
  Worker(Save& save, const util::Pulse* pulse) : save_(save), pulse_(pulse) {}

  void run() {
    request_ = save_.requests.size();
    try {
      for (;;) {
        check_stopped();
        const std::size_t block = save_.next_block.fetch_add(1);
        if (block >= save_.blocks.size()) break;
        run_block(save_.blocks[block]);
      }
    } catch (const util::Stopped&) {  // NOLINT(bugprone-empty-catch): another thread has failed
    } catch (...) {
      save_.fail(request_, std::current_exception());
    }
  }

 private:
  void check_stopped() const {
    if (pulse_ != nullptr) pulse_->check();
    if (save_.stopped) throw util::Stopped();
  }

  void run_block(const Block& block) {
    gathered_.clear();
    gathered_at_ = save_.requests[block.first].begin;
    for (request_ = block.first; request_ < block.first + block.count; ++request_) {
      check_stopped();
      const WriteRequest& request = save_.requests[request_];
      gathered_.append(request.ends->head());
      request.ends->append_tail(write_data(request), gathered_);
    }
    --request_;  // the last one, if the bytes that are left cannot be written
    flush();
  }

  /// Returns the checksum of the data.
  std::uint32_t write_data(const WriteRequest& request) {
    const std::uint64_t size = request.ends->data_size();
    if (size == 0) return 0;
    if (request.data != nullptr) return write(request.data, static_cast<std::size_t>(size), 0);
    if (source_ == nullptr) source_ = save_.options.make_source();
    source_->start(request_);
    std::uint32_t sum = 0;
    for (std::uint64_t done = 0; done < size;) {
      const std::string_view bytes = source_->next();
      sum = write(bytes.data(), bytes.size(), sum);
      done += bytes.size();
    }
    return sum;
  }

  /// Writes bytes, or gathers them if they are few. Returns the checksum of all data so far.
  std::uint32_t write(const char* bytes, std::size_t size, std::uint32_t sum) {
    save_.bytes_done += size;
    if (size <= kMaxCopied) {
      if (save_.options.checksums) sum = crc32(bytes, size, sum);
      gathered_.append(bytes, size);
      if (gathered_.size() >= kGathered) flush();
      return sum;
    }
    flush();
    for (std::size_t done = 0; done < size;) {
      check_stopped();
      const std::size_t more = std::min(kCached, size - done);
      if (save_.options.checksums) sum = crc32(bytes + done, more, sum);
      put(bytes + done, more);
      done += more;
    }
    return sum;
  }

  void flush() {
    put(gathered_.data(), gathered_.size());
    gathered_.clear();
  }

  void put(const char* bytes, std::size_t size) {
    save_.file.write_at(gathered_at_, bytes, size);
    gathered_at_ += size;
  }

  Save& save_;
  const util::Pulse* pulse_;
  std::size_t request_ = 0;  // the one being written, for errors
  std::string gathered_;
  std::uint64_t gathered_at_ = 0;  // where `gathered_` goes in the file
  std::unique_ptr<StagingSource> source_;
};

}  // namespace

WriteResult write(const Output& file, std::span<const WriteRequest> requests,
                  const WriteOptions& options) {
  Save save{file, requests, options, blocks_of(requests), {}, {}, {}, {}, {}};
  save.result.failed = requests.size();
  std::uint64_t bytes = 0;
  for (const WriteRequest& request : requests) bytes += request.ends->size();
  const std::size_t threads = file.is_sequential() ? 1 : options.threads;
  const std::size_t count =
      std::min<std::uint64_t>({threads, save.blocks.size(), 1 + bytes / kThreadBytes});
  const util::Pulse pulse =
      options.progress ? util::Pulse([&] { options.progress(save.bytes_done); }) : util::Pulse();
  util::run_on_threads(
      std::max<std::size_t>(1, count),
      [&](bool is_caller) { Worker(save, is_caller ? &pulse : nullptr).run(); }, pulse,
      [&](std::exception_ptr error) { save.fail(requests.size(), std::move(error)); });
  return save.result;
}

}  // namespace shardplan::data
