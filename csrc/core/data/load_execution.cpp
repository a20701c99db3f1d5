#include "core/data/load_execution.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "core/data/file_window.h"
#include "core/data/tensor_part.h"
#include "core/util/text.h"

namespace shardplan::data {
namespace {

/// Shorter runs are copied faster by the sink, which transposes in blocks.
constexpr std::uint64_t kMinDirectRun = 64;
constexpr std::uint64_t kMinTransposed = std::uint64_t{1} << 18;

/// Returns whether runs are short only because the target has another order of dims.
bool is_long_transposition(const StridedCopy& copy) {
  return copy.run < kMinDirectRun && copy.bytes() > kMinTransposed &&
         copy.dims.back().source_stride == copy.run;
}

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

/// Part of a copy, for any thread.
struct Piece {
  std::size_t request = 0;
  StridedCopy copy;
};

/// Thrown in a thread when another one has ended the load.
struct Stopped {};

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

/// A thread of a load.
class Worker {
 public:
  /// `pulse` is null except on the calling thread.
  Worker(Load& load, const util::Pulse* pulse) : load_(load), pulse_(pulse) {}

  void run() {
    try {
      for (;;) {
        check();
        if (load_.stopped) break;
        if (Piece piece; load_.pop(piece)) {
          request_ = piece.request;
          open(load_.requests[request_].file);
          read_direct(request_, piece.copy);
          done(request_);
        } else if (!run_next_block() && !load_.wait_for_piece()) {
          break;
        }
      }
      request_ = load_.requests.size();
      if (sink_ != nullptr) {
        sink_->finish();
        finish_staged();
      }
    } catch (const Stopped&) {  // NOLINT(bugprone-empty-catch): another thread has failed
    } catch (...) {
      load_.fail(request_, std::current_exception());
    }
    load_.count(window_);
  }

 private:
  void check() const {
    if (pulse_ != nullptr) pulse_->check();
  }
  void check_stopped() const {
    check();
    if (load_.stopped) throw Stopped();
  }

  void open(std::uint32_t file) {
    if (file_ != nullptr && opened_ == file) return;
    file_.reset();
    try {
      file_ = load_.open(file);
    } catch (const std::system_error& error) {
      throw FailedRead("cannot be opened", error.code().value());
    }
    opened_ = file;
    window_.open(*file_);
  }

  /// Returns false if there is no block left.
  bool run_next_block() {
    const Load::InBlock guard(load_);
    const std::size_t block = load_.next_block();
    if (block == load_.schedule.blocks.size()) return false;
    run_block(load_.schedule.blocks[block]);
    return true;
  }

  const ReadRequest& first_of(const PartTask& part) const {
    return load_.requests[load_.schedule.order[part.first]];
  }

  void run_block(const BlockTask& block) {
    const auto& parts = load_.schedule.parts;
    request_ = load_.schedule.order[parts[block.first].first];
    open(first_of(parts[block.first]).file);
    const Load::InFlight in_flight(load_, holds_bytes_, block.whole ? block.length : 0,
                                   [this] { check_stopped(); });
    if (block.whole) {
      window_.keep(FileWindow::kHead, block.begin, static_cast<std::size_t>(block.length));
    } else {
      const auto end =
          static_cast<std::size_t>(std::min(load_.options.sizes.part_end, block.length));
      window_.keep(FileWindow::kHead, block.begin, end);
      window_.keep(FileWindow::kTail, block.begin + block.length - end, end);
    }
    for (std::size_t at = block.first; at < block.first + block.count; ++at) {
      check_stopped();
      run_part(parts[at]);
    }
    window_.release(FileWindow::kHead);
    window_.release(FileWindow::kTail);
  }

  void run_part(const PartTask& part) {
    const ReadRequest& request = first_of(part);
    request_ = load_.schedule.order[part.first];
    const PartBytes bytes = [this, &request](std::uint64_t offset, char* into, std::size_t count) {
      if (offset >= request.length) return std::size_t{0};
      return window_.read(
          request.begin + offset, into,
          static_cast<std::size_t>(std::min<std::uint64_t>(count, request.length - offset)));
    };
    StoredTensor stored;
    try {
      const ZipPart zip(bytes, request.length);
      if (load_.options.verify) verify(bytes, zip);
      stored = tensors_.read(bytes, zip);
      if (stored.big_endian) throw UnreadPart("is not a plain tensor: it is big-endian");
    } catch (const BadPart& problem) {
      if (load_.options.verify && dynamic_cast<const UnreadPart*>(&problem) == nullptr) {
        throw FailedRead(problem.what());
      }
      for (std::size_t at = part.first; at < part.first + part.count; ++at) {
        load_.leave_unread(load_.schedule.order[at], problem.what());
      }
      return;
    }
    for (std::size_t at = part.first; at < part.first + part.count; ++at) {
      request_ = load_.schedule.order[at];
      run_request(load_.schedule.order[at], stored);
    }
  }

  void verify(const PartBytes& bytes, const ZipPart& zip) {
    if (!zip.has_checksums()) return;
    for (const ZipMember& member : zip.members()) {
      check_stopped();
      const std::uint32_t sum = checksum_of(bytes, member);
      if (sum != member.crc) {
        throw FailedRead("has a wrong checksum in " + util::printable(member.name) + ", bytes " +
                         util::grouped(member.begin) + " to " +
                         util::grouped(member.begin + member.size) + " of the part");
      }
    }
  }

  /// Sets `offsets_` to where a request's box begins, as upstream narrows: a dim that is read in
  /// full begins at 0, whatever the request says. Returns false if the box is not in the tensor.
  bool locate_box(const ReadRequest& request, const StoredTensor& stored) {
    if (request.lengths.size() != stored.shape.size()) return false;
    offsets_.assign(stored.shape.size(), 0);
    for (std::size_t dim = 0; dim < offsets_.size(); ++dim) {
      const std::int64_t size = stored.shape[dim];
      const std::int64_t length = request.lengths[dim];
      if (length == size) continue;
      const std::int64_t offset = request.offsets[dim];
      if (offset < 0 || length < 0 || offset > size || length > size - offset) return false;
      offsets_[dim] = offset;
    }
    return true;
  }

  void run_request(std::size_t index, const StoredTensor& stored) {
    const ReadRequest& request = load_.requests[index];
    if (!locate_box(request, stored)) {
      load_.leave_unread(index, "has no box of the size and position that the plan wants");
      return;
    }
    const Layout source{request.begin + stored.begin, stored.strides};
    if (request.target != nullptr && request.dtype == stored.dtype) {
      const auto copy = copy_of_box(stored.element_size, source, offsets_, request.lengths,
                                    {0, request.target_strides});
      if (copy && !is_long_transposition(*copy)) {
        load_.result.outcomes[index] = Outcome::kBegun;
        read_pieces(index, *copy);
        return;
      }
    }
    if (sink_ == nullptr) sink_ = load_.options.make_sink();
    if (!sink_->accepts(index, stored.dtype)) {
      load_.leave_unread(index, "has dtype " + stored.dtype + ", and the target another one");
      return;
    }
    load_.result.outcomes[index] = Outcome::kBegun;
    read_staged(index, stored, source);
  }

  void read_pieces(std::size_t index, const StridedCopy& copy) {
    std::vector<StridedCopy> split;
    const std::uint64_t max_read = load_.options.sizes.max_read;
    if (load_.options.threads > 1 && copy.bytes() > max_read) {
      copy.split(max_read, split);
    } else {
      split.push_back(copy);
    }
    load_.pieces_left[index] = static_cast<std::uint32_t>(split.size());
    if (split.size() > 1) {
      std::vector<Piece> pieces;
      pieces.reserve(split.size());
      for (StridedCopy& piece : split) pieces.push_back({index, std::move(piece)});
      load_.push(std::move(pieces));
      return;
    }
    read_direct(index, copy);
    done(index);
  }

  void done(std::size_t index) {
    if (--load_.pieces_left[index] == 0) load_.result.outcomes[index] = Outcome::kRead;
  }

  void read_direct(std::size_t index, const StridedCopy& copy) {
    char* const target = load_.requests[index].target;
    read_copy(copy, target);
    load_.bytes_done += copy.bytes();
  }

  /// Reads the bytes of a copy to `target`.
  void read_copy(const StridedCopy& copy, char* target) {
    for_each_read(copy, load_.options.sizes, runs_, [&](const Read& read) {
      const auto length = static_cast<std::size_t>(read.length);
      const Load::InFlight in_flight(load_, holds_bytes_,
                                     std::min(read.length, load_.options.sizes.max_read),
                                     [this] { check_stopped(); });
      const char* kept = window_.find(read.begin, length);
      if (kept == nullptr && read.runs.size() == 1) {
        read_exactly(read.begin, target + read.runs.front().target, read.length);
        return;
      }
      if (kept == nullptr) {
        check_stopped();
        window_.keep(FileWindow::kRuns, read.begin, length);
        kept = window_.find(read.begin, length);
        if (kept == nullptr) throw ends_early(read.begin + window_.kept(FileWindow::kRuns));
      }
      for (const Run& run : read.runs) {
        std::memcpy(target + run.target, kept + (run.source - read.begin),
                    static_cast<std::size_t>(copy.run));
      }
      window_.release(FileWindow::kRuns);
    });
  }

  static FailedRead ends_early(std::uint64_t byte) {
    return FailedRead("ends at byte " + util::grouped(byte) + ", within the part");
  }

  void read_exactly(std::uint64_t begin, char* into, std::uint64_t count) {
    for (std::uint64_t done = 0; done < count;) {
      check_stopped();
      const auto more =
          static_cast<std::size_t>(std::min(load_.options.sizes.max_read, count - done));
      if (const std::size_t got = window_.read(begin + done, into + done, more); got < more) {
        throw ends_early(begin + done + got);
      }
      done += more;
    }
  }

  void read_staged(std::size_t index, const StoredTensor& stored, const Layout& source) {
    const ReadRequest& request = load_.requests[index];
    const std::vector<std::int64_t> box = offsets_;
    const std::size_t ndim = box.size();
    std::vector<std::int64_t> strides(ndim);
    for (const BoxPiece& piece :
         split_box(request.lengths, sink_->capacity() / stored.element_size)) {
      check_stopped();
      std::int64_t elements = 1;
      for (std::size_t dim = ndim; dim-- > 0;) {
        offsets_[dim] = box[dim] + piece.offsets[dim];
        strides[dim] = elements;
        elements *= piece.lengths[dim];
      }
      const auto copy =
          copy_of_box(stored.element_size, source, offsets_, piece.lengths, {0, strides});
      if (!copy) throw FailedRead("has a tensor whose size in bytes does not fit 64 bits");
      read_copy(*copy, sink_->buffer(index));
      sink_->copy(index, stored.dtype, piece);
      load_.bytes_done += copy->bytes();
    }
    staged_.push_back(index);
  }

  /// The copies of a sink are done when it has finished.
  void finish_staged() {
    for (const std::size_t index : staged_) load_.result.outcomes[index] = Outcome::kRead;
  }

  Load& load_;
  const util::Pulse* pulse_;
  std::size_t request_ = 0;  // the one being read, for errors

  bool holds_bytes_ = false;  // true while there is a Load::InFlight of this thread

  std::shared_ptr<const Source> file_;
  std::uint32_t opened_ = 0;
  FileWindow window_;
  TensorPartReader tensors_;
  std::unique_ptr<StagingSink> sink_;
  std::vector<std::size_t> staged_;
  std::vector<std::int64_t> offsets_;
  std::vector<Run> runs_;
};

/// Starting a thread takes as long as reading a megabyte.
std::size_t useful_threads(Load& load) {
  constexpr std::size_t kRequests = 2000;
  for (const ReadRequest& request : load.requests) {
    const std::uint64_t more = request.bytes_wanted();
    load.result.bytes_wanted += std::min(more, ~std::uint64_t{0} - load.result.bytes_wanted);
  }
  const std::uint64_t by_bytes = 1 + load.result.bytes_wanted / load.options.sizes.thread;
  return std::max<std::uint64_t>(by_bytes, 1 + load.requests.size() / kRequests);
}

}  // namespace

LoadResult load(std::span<const ReadRequest> requests, const LoadOptions& options) {
  Load load(requests, options);
  const std::size_t count = std::min(options.threads, useful_threads(load));
  const util::Pulse pulse =
      options.progress
          ? util::Pulse([&] { options.progress(load.bytes_done, load.result.bytes_wanted); })
          : util::Pulse();
  std::vector<std::thread> threads;
  try {
    for (std::size_t more = 1; more < count; ++more) {
      threads.emplace_back([&load] { Worker(load, nullptr).run(); });
    }
  } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch)
    // The system has no more threads; those that there are do the work.
  }
  Worker(load, &pulse).run();
  for (std::thread& thread : threads) thread.join();
  return std::move(load.result);
}

}  // namespace shardplan::data
