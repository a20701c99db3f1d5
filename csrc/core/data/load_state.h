#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data/file.h"
#include "core/data/file_window.h"
#include "core/data/load_execution.h"
#include "core/data/read_schedule.h"
#include "core/data/strided_copy.h"

namespace shardplan::data {

/// Part of a copy, for any thread.
struct Piece {
  std::size_t request = 0;
  StridedCopy copy;
};

/// What the threads of a load share.
class Load {
 public:
  Load(std::span<const ReadRequest> all_requests, const LoadOptions& load_options)
      : requests(all_requests),
        options(load_options),
        schedule(schedule_reads(all_requests, load_options.sizes)),
        pieces_left(all_requests.size()) {
    result.outcomes.resize(requests.size(), Outcome::kUnreached);
    result.failed = requests.size();
  }

  const std::span<const ReadRequest> requests;
  const LoadOptions& options;
  const ReadSchedule schedule;
  LoadResult result;
  std::vector<std::atomic<std::uint32_t>> pieces_left;  // per request
  std::atomic<std::uint64_t> bytes_done = 0;
  std::atomic<bool> stopped = false;

  /// Returns the next block, or the number of blocks.
  std::size_t next_block() { return std::min(next_block_.fetch_add(1), schedule.blocks.size()); }

  void push(std::vector<Piece> more) {
    const std::scoped_lock lock(mutex_);
    std::ranges::move(more, std::back_inserter(pieces_));
    changed_.notify_all();
  }

  /// Bytes that a thread asks for, and uses. A thread that waits for other threads holds none, so
  /// an object does nothing if its thread already has one.
  class InFlight {
   public:
    template <class Check>
    InFlight(Load& load, bool& holds, std::uint64_t bytes, Check&& check)
        : load_(load), holds_(holds), bytes_(std::min(bytes, load.options.max_in_flight)) {
      if (holds || load.options.max_in_flight == kUnlimited) {
        bytes_ = 0;
        return;
      }
      std::unique_lock lock(load_.mutex_);
      while (bytes_ > load_.options.max_in_flight - load_.in_flight_) {
        load_.changed_.wait_for(lock, std::chrono::milliseconds(20));
        lock.unlock();
        check();
        lock.lock();
      }
      load_.in_flight_ += bytes_;
      holds_ = bytes_ != 0;
    }
    ~InFlight() {
      if (bytes_ == 0) return;
      const std::scoped_lock lock(load_.mutex_);
      load_.in_flight_ -= bytes_;
      load_.changed_.notify_all();
      holds_ = false;
    }
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;

   private:
    Load& load_;
    bool& holds_;
    std::uint64_t bytes_;
  };

  bool pop(Piece& piece) {
    const std::scoped_lock lock(mutex_);
    if (pieces_.empty()) return false;
    piece = std::move(pieces_.front());
    pieces_.pop_front();
    return true;
  }

  /// A thread is in a block, and may push pieces, as long as it has one of these.
  class InBlock {
   public:
    explicit InBlock(Load& load) : load_(load) { ++load_.busy_; }
    ~InBlock() {
      const std::scoped_lock lock(load_.mutex_);
      --load_.busy_;
      load_.changed_.notify_all();
    }
    InBlock(const InBlock&) = delete;
    InBlock& operator=(const InBlock&) = delete;

   private:
    Load& load_;
  };

  /// Waits until there may be a piece. Returns false when there is no more work.
  bool wait_for_piece() {
    std::unique_lock lock(mutex_);
    if (!pieces_.empty()) return true;
    if (stopped || busy_ == 0) return false;
    changed_.wait_for(lock, std::chrono::milliseconds(20));
    return true;
  }

  void fail(std::size_t request, std::exception_ptr error) {
    const std::scoped_lock lock(mutex_);
    if (stopped.exchange(true)) return;
    result.error = std::move(error);
    result.failed = request;
  }

  void leave_unread(std::size_t request, const std::string& why) {
    const std::scoped_lock lock(mutex_);
    result.outcomes[request] = Outcome::kUnread;
    result.unread.push_back({request, why});
  }

  /// Returns a file that threads share while one of them reads it.
  std::shared_ptr<const Source> open(std::uint32_t file) {
    const std::scoped_lock lock(files_mutex_);
    std::weak_ptr<const Source>& known = files_[file];
    std::shared_ptr<const Source> source = known.lock();
    if (source == nullptr) known = source = options.open(file);
    return source;
  }

  void count(const FileWindow& window) {
    const std::scoped_lock lock(mutex_);
    result.bytes_read += window.bytes_read();
    result.reads += window.reads();
  }

 private:
  std::atomic<std::size_t> next_block_ = 0;
  std::atomic<std::size_t> busy_ = 0;  // threads that may still push pieces
  std::uint64_t in_flight_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> pieces_;

  std::mutex files_mutex_;
  std::unordered_map<std::uint32_t, std::weak_ptr<const Source>> files_;
};

}  // namespace shardplan::data
