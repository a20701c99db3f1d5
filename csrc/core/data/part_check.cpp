#include "core/data/part_check.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "core/util/pulse.h"
#include "core/util/threads.h"

namespace shardplan::data {
namespace {

/// Runs tasks on threads, and collects the indices that they report.
class Tasks {
 public:
  explicit Tasks(const CheckOptions& options) : options_(options) {}

  /// make_worker(interrupt) is called by each thread, and returns a function that does the task of
  /// an index. Returns what tasks have reported, in order.
  template <class MakeWorker>
  std::vector<std::size_t> run(std::size_t count, const MakeWorker& make_worker) {
    const util::Pulse pulse =
        options_.progress ? util::Pulse([&] { options_.progress(bytes_done_); }) : util::Pulse();
    const auto work = [&](bool is_caller) {
      const std::function<void()> interrupt = [&] {
        if (is_caller) pulse.check();
        if (stopped_) throw util::Stopped();
      };
      try {
        const auto task = make_worker(interrupt);
        for (;;) {
          const std::size_t next = next_.fetch_add(1);
          if (next >= count) return;
          interrupt();
          task(next);
        }
      } catch (const util::Stopped&) {  // NOLINT(bugprone-empty-catch): another thread has failed
      } catch (...) {
        fail(std::current_exception());
      }
    };
    util::run_on_threads(std::min(options_.threads, count), work, pulse,
                         [&](std::exception_ptr error) { fail(std::move(error)); });
    if (error_ != nullptr) std::rethrow_exception(error_);
    std::ranges::sort(reported_);
    return std::move(reported_);
  }

  void report(std::size_t index) {
    const std::scoped_lock lock(mutex_);
    reported_.push_back(index);
  }

  void add_bytes(std::uint64_t count) { bytes_done_ += count; }

 private:
  void fail(std::exception_ptr error) {
    const std::scoped_lock lock(mutex_);
    if (!stopped_.exchange(true)) error_ = std::move(error);
  }

  const CheckOptions& options_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::uint64_t> bytes_done_ = 0;
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;
  std::vector<std::size_t> reported_;
  std::exception_ptr error_;
};

/// Neighbouring parts that are read into memory at once, or a single part that is not.
struct Block {
  std::size_t first = 0;
  std::size_t count = 0;
};

std::vector<Block> blocks_of(std::span<const ExpectedPart> parts, const ReadSizes& sizes) {
  std::vector<Block> blocks;
  for (std::size_t at = 0; at < parts.size(); ++at) {
    const bool joins = !blocks.empty() &&
                       parts[at].end() - parts[blocks.back().first].begin <= sizes.max_block &&
                       parts[at].begin - parts[at - 1].end() < sizes.page;
    if (joins) {
      ++blocks.back().count;
    } else {
      blocks.push_back({at, 1});
    }
  }
  return blocks;
}

/// Compares the parts of a pair. Each thread has its own.
class Comparison {
 public:
  Comparison(const OpenFile& open, const CheckOptions& options,
             const std::function<void()>& interrupt)
      : open_(open),
        block_(options.sizes.max_block),
        a_(options.sizes, interrupt),
        b_(options.sizes, interrupt) {}

  bool are_equal(const PartPair& pair) {
    if (opened_a_ != pair.file_a) a_.open(open_(pair.file_a));
    opened_a_ = pair.file_a;
    if (opened_b_ != pair.file_b) b_.open(open_(pair.file_b));
    opened_b_ = pair.file_b;
    a_.keep(pair.a.begin, pair.a.length);
    b_.keep(pair.b.begin, pair.b.length);
    StoredTensor a;
    StoredTensor b;
    const bool equal = a_.is_sound(pair.a, a) && b_.is_sound(pair.b, b) && a.dtype == b.dtype &&
                       a.strides == b.strides && !a.big_endian && !b.big_endian && is_plain(a) &&
                       have_same_bytes(pair, a, b);
    a_.release();
    b_.release();
    return equal;
  }

 private:
  /// Returns whether no elements share bytes, and none lie between them.
  static bool is_plain(const StoredTensor& tensor) {
    std::uint64_t bytes = tensor.element_size;
    for (const std::int64_t size : tensor.shape) {
      if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) return false;
    }
    return bytes == tensor.reach;
  }

  bool have_same_bytes(const PartPair& pair, const StoredTensor& a, const StoredTensor& b) {
    for (std::uint64_t done = 0; done < a.reach;) {
      const auto more = static_cast<std::size_t>(std::min(block_, a.reach - done));
      const char* const of_a = a_.bytes(pair.a.begin + a.begin + done, more);
      const char* const of_b = b_.bytes(pair.b.begin + b.begin + done, more);
      if (std::memcmp(of_a, of_b, more) != 0) return false;
      done += more;
    }
    return true;
  }

  const OpenFile& open_;
  std::uint64_t block_;
  PartChecker a_;
  PartChecker b_;
  std::optional<std::uint32_t> opened_a_;
  std::optional<std::uint32_t> opened_b_;
};

}  // namespace

std::vector<std::size_t> find_unsound(std::shared_ptr<const Source> source,
                                      std::span<const ExpectedPart> parts,
                                      const CheckOptions& options) {
  const std::vector<Block> blocks = blocks_of(parts, options.sizes);
  Tasks tasks(options);
  return tasks.run(blocks.size(), [&](const std::function<void()>& interrupt) {
    const auto checker = std::make_shared<PartChecker>(options.sizes, interrupt);
    checker->open(source);
    return [&, checker](std::size_t at) {
      const Block& block = blocks[at];
      const std::uint64_t begin = parts[block.first].begin;
      checker->keep(begin, parts[block.first + block.count - 1].end() - begin);
      for (std::size_t part = block.first; part < block.first + block.count; ++part) {
        StoredTensor stored;
        if (!checker->is_sound(parts[part], stored)) tasks.report(part);
        tasks.add_bytes(parts[part].length);
      }
      checker->release();
    };
  });
}

std::vector<std::size_t> find_unequal(const OpenFile& open, std::span<const PartPair> pairs,
                                      const CheckOptions& options) {
  Tasks tasks(options);
  return tasks.run(pairs.size(), [&](const std::function<void()>& interrupt) {
    const auto comparison = std::make_shared<Comparison>(open, options, interrupt);
    return [&, comparison](std::size_t at) {
      bool equal = false;
      try {
        equal = comparison->are_equal(pairs[at]);
      } catch (const FailedRead&) {         // NOLINT(bugprone-empty-catch): not known to be equal
      } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch): a file is not opened
      }
      if (!equal) tasks.report(at);
      tasks.add_bytes(pairs[at].a.length + pairs[at].b.length);
    };
  });
}

}  // namespace shardplan::data
