#include "core/data/part_check.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "core/data/file_window.h"
#include "core/data/tensor_part.h"
#include "core/data/zip_part.h"
#include "core/util/pulse.h"

namespace shardplan::data {
namespace {

/// Thrown in a thread when another one has ended the check.
struct Stopped {};

/// Neighbouring parts that are read into memory at once, or a single part that is not.
struct Block {
  std::size_t first = 0;
  std::size_t count = 0;
};

std::uint64_t end_of(const ExpectedPart& part) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  return part.length > kMax - part.begin ? kMax : part.begin + part.length;
}

/// What the threads of a check share.
class Check {
 public:
  Check(const Source& source, std::span<const ExpectedPart> parts, const CheckOptions& options)
      : source_(source), parts_(parts), options_(options) {
    for (std::size_t at = 0; at < parts.size(); ++at) {
      const bool joins =
          !blocks_.empty() &&
          end_of(parts[at]) - parts[blocks_.back().first].begin <= options.sizes.max_block &&
          parts[at].begin - end_of(parts[at - 1]) < options.sizes.page;
      if (joins) {
        ++blocks_.back().count;
      } else {
        blocks_.push_back({at, 1});
      }
    }
  }

  std::vector<std::size_t> run() {
    const util::Pulse pulse =
        options_.progress ? util::Pulse([&] { options_.progress(bytes_done_); }) : util::Pulse();
    std::vector<std::thread> threads;
    try {
      for (std::size_t more = 1; more < std::min(options_.threads, blocks_.size()); ++more) {
        threads.emplace_back([this] { work(util::Pulse()); });
      }
    } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch)
      // The system has no more threads; those that there are do the work.
    }
    work(pulse);
    for (std::thread& thread : threads) thread.join();
    if (error_ != nullptr) std::rethrow_exception(error_);
    std::ranges::sort(unsound_);
    return std::move(unsound_);
  }

 private:
  void work(const util::Pulse& pulse) {
    const auto check = [&] {
      pulse.check();
      if (stopped_) throw Stopped();
    };
    FileWindow window;
    window.open(source_);
    TensorPartReader tensors;
    try {
      for (;;) {
        const std::size_t next = next_block_.fetch_add(1);
        if (next >= blocks_.size()) return;
        check();
        run_block(blocks_[next], window, tensors, check);
      }
    } catch (const Stopped&) {  // NOLINT(bugprone-empty-catch): another thread has failed
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!stopped_.exchange(true)) error_ = std::current_exception();
    }
  }

  template <class Interrupt>
  void run_block(const Block& block, FileWindow& window, TensorPartReader& tensors,
                 const Interrupt& check) {
    const std::uint64_t begin = parts_[block.first].begin;
    const std::uint64_t length = end_of(parts_[block.first + block.count - 1]) - begin;
    try {
      if (length <= options_.sizes.max_block) {
        window.keep(FileWindow::kHead, begin, static_cast<std::size_t>(length));
      } else {
        const auto end = static_cast<std::size_t>(std::min(options_.sizes.part_end, length));
        window.keep(FileWindow::kHead, begin, end);
        window.keep(FileWindow::kTail, begin + length - end, end);
      }
    } catch (const FailedRead&) {  // NOLINT(bugprone-empty-catch): each part is tried alone
    }
    for (std::size_t at = block.first; at < block.first + block.count; ++at) {
      if (!is_sound(parts_[at], window, tensors, check)) {
        const std::scoped_lock lock(mutex_);
        unsound_.push_back(at);
      }
      bytes_done_ += parts_[at].length;
    }
    window.release(FileWindow::kHead);
    window.release(FileWindow::kTail);
  }

  template <class Interrupt>
  bool is_sound(const ExpectedPart& part, FileWindow& window, TensorPartReader& tensors,
                const Interrupt& check) {
    const PartBytes bytes = [&](std::uint64_t offset, char* into, std::size_t count) {
      if (offset >= part.length) return std::size_t{0};
      check();
      return window.read(
          part.begin + offset, into,
          static_cast<std::size_t>(std::min<std::uint64_t>(count, part.length - offset)));
    };
    try {
      const ZipPart zip(bytes, part.length);
      if (!zip.has_checksums()) return false;
      for (const ZipMember& member : zip.members()) {
        const std::uint32_t sum = window.checksum(part.begin + member.begin, member.size,
                                                  options_.sizes.max_block, check);
        if (sum != member.crc) return false;
      }
      if (!part.is_tensor) return true;
      const StoredTensor stored = tensors.read(bytes, zip);
      return std::ranges::equal(stored.shape, part.shape) &&
             (part.dtype.empty() || stored.dtype == part.dtype);
    } catch (const BadPart&) {
      return false;
    } catch (const FailedRead&) {
      return false;
    }
  }

  const Source& source_;
  const std::span<const ExpectedPart> parts_;
  const CheckOptions& options_;
  std::vector<Block> blocks_;
  std::atomic<std::size_t> next_block_ = 0;
  std::atomic<std::uint64_t> bytes_done_ = 0;
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;
  std::vector<std::size_t> unsound_;
  std::exception_ptr error_;
};

}  // namespace

std::vector<std::size_t> find_unsound(const Source& source, std::span<const ExpectedPart> parts,
                                      const CheckOptions& options) {
  return Check(source, parts, options).run();
}

}  // namespace shardplan::data
