#include "core/data/load_execution.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/data/crc32.h"
#include "core/data/file_window.h"
#include "core/data/load_state.h"
#include "core/data/tensor_part.h"
#include "core/util/text.h"
#include "core/util/threads.h"

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
    } catch (const util::Stopped&) {  // NOLINT(bugprone-empty-catch): another thread has failed
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
    if (load_.stopped) throw util::Stopped();
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
    } else if (first_of(parts[block.first]).stored == nullptr) {
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
    StoredTensor found;
    const StoredTensor* stored = request.stored;
    if (stored == nullptr) {
      try {
        found = read_description(request);
        stored = &found;
      } catch (const BadPart& problem) {
        if (load_.options.verify && dynamic_cast<const UnreadPart*>(&problem) == nullptr) {
          throw FailedRead(problem.what());
        }
        verify_data();
        for (std::size_t at = part.first; at < part.first + part.count; ++at) {
          load_.leave_unread(load_.schedule.order[at], problem.what());
        }
        return;
      }
    }
    for (std::size_t at = part.first; at < part.first + part.count; ++at) {
      request_ = load_.schedule.order[at];
      run_request(load_.schedule.order[at], *stored);
    }
    verify_data();
  }

  /// Reads the description of a part's tensor from the part, and verifies all but its data.
  StoredTensor read_description(const ReadRequest& request) {
    const PartBytes bytes = [this, &request](std::uint64_t offset, char* into, std::size_t count) {
      return window_.read_part(request.begin, request.length, offset, into, count);
    };
    const ZipPart zip(bytes, request.length);
    if (load_.options.verify) verify(zip, request.begin);
    StoredTensor stored = tensors_.read(bytes, zip);
    if (stored.big_endian) throw UnreadPart("is not a plain tensor: it is big-endian");
    return stored;
  }

  /// Compares the checksums of all members but the largest one, which `verify_data` or
  /// `read_verified` compares.
  void verify(const ZipPart& zip, std::uint64_t part_begin) {
    if (!zip.has_checksums()) return;
    const auto largest = std::ranges::max_element(zip.members(), {}, &ZipMember::size);
    for (auto member = zip.members().begin(); member != zip.members().end(); ++member) {
      if (member != largest) verify(*member, part_begin);
    }
    unverified_ = *largest;
    part_begin_ = part_begin;
  }

  void verify(const ZipMember& member, std::uint64_t part_begin) {
    const std::uint64_t block = std::min(load_.options.sizes.max_block, member.size);
    const auto check = [this] { check_stopped(); };
    const Load::InFlight in_flight(load_, holds_bytes_, block, check);
    compare(member, window_.checksum(part_begin + member.begin, member.size, block, check));
  }

  void verify_data() {
    const std::optional<ZipMember> member = std::exchange(unverified_, std::nullopt);
    if (member) verify(*member, part_begin_);
  }

  static void compare(const ZipMember& member, std::uint32_t sum) {
    if (sum == member.crc) return;
    throw FailedRead("has a wrong checksum in " + util::printable(member.name) + ", bytes " +
                     util::grouped(member.begin) + " to " +
                     util::grouped(member.begin + member.size) + " of the part");
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
    verify_data();
    load_.result.outcomes[index] = Outcome::kBegun;
    read_staged(index, stored, source);
  }

  void read_pieces(std::size_t index, const StridedCopy& copy) {
    const std::optional<ZipMember> member = std::exchange(unverified_, std::nullopt);
    if (member && copy.dims.empty() && copy.run == member->size &&
        copy.source == part_begin_ + member->begin) {
      read_verified(index, copy, *member);
      return;
    }
    if (member) verify(*member, part_begin_);
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

  /// Reads all of a member, and compares its checksum.
  void read_verified(std::size_t index, const StridedCopy& copy, const ZipMember& member) {
    char* const target = load_.requests[index].target + copy.target;
    std::uint32_t sum = 0;
    for (std::uint64_t done = 0; done < copy.run;) {
      const std::uint64_t more = std::min(load_.options.sizes.max_block, copy.run - done);
      const Load::InFlight in_flight(load_, holds_bytes_, more, [this] { check_stopped(); });
      read_exactly(copy.source + done, target + done, more);
      sum = crc32(target + done, static_cast<std::size_t>(more), sum);
      done += more;
      load_.bytes_done += more;
    }
    compare(member, sum);
    load_.result.outcomes[index] = Outcome::kRead;
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
      if (read.runs.size() == 1 && window_.find(read.begin, length) == nullptr) {
        read_exactly(read.begin, target + read.runs.front().target, read.length);
        return;
      }
      check_stopped();
      const char* const kept = window_.bytes(read.begin, length);
      for (const Run& run : read.runs) {
        std::memcpy(target + run.target, kept + (run.source - read.begin),
                    static_cast<std::size_t>(copy.run));
      }
      window_.release(FileWindow::kRuns);
    });
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
  std::optional<ZipMember> unverified_;  // of the part that begins at `part_begin_`
  std::uint64_t part_begin_ = 0;
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
  util::run_on_threads(
      count, [&](bool is_caller) { Worker(load, is_caller ? &pulse : nullptr).run(); }, pulse,
      [&](std::exception_ptr error) { load.fail(requests.size(), std::move(error)); });
  return std::move(load.result);
}

}  // namespace shardplan::data
