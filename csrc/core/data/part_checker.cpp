#include "core/data/part_checker.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/data/zip_part.h"

namespace shardplan::data {

std::uint64_t ExpectedPart::end() const {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  return length > kMax - begin ? kMax : begin + length;
}

void PartChecker::open(std::shared_ptr<const Source> source) {
  if (source_ == source) return;
  source_ = std::move(source);
  window_.open(*source_);
}

void PartChecker::keep(std::uint64_t begin, std::uint64_t length) {
  interrupt_();
  try {
    if (length <= sizes_.max_block) {
      window_.keep(FileWindow::kHead, begin, static_cast<std::size_t>(length));
    } else {
      const auto end = static_cast<std::size_t>(std::min(sizes_.part_end, length));
      window_.keep(FileWindow::kHead, begin, end);
      window_.keep(FileWindow::kTail, begin + length - end, end);
    }
  } catch (const FailedRead&) {  // NOLINT(bugprone-empty-catch): each part is tried alone
  }
}

bool PartChecker::is_sound(const ExpectedPart& part, StoredTensor& stored) {
  const PartBytes bytes = [&](std::uint64_t offset, char* into, std::size_t count) {
    interrupt_();
    return window_.read_part(part.begin, part.length, offset, into, count);
  };
  try {
    const ZipPart zip(bytes, part.length);
    if (!zip.has_checksums()) return false;
    for (const ZipMember& member : zip.members()) {
      const std::uint32_t sum =
          window_.checksum(part.begin + member.begin, member.size, sizes_.max_block, interrupt_);
      if (sum != member.crc) return false;
    }
    if (!part.is_tensor) return true;
    stored = tensors_.read(bytes, zip);
    return std::ranges::equal(stored.shape, part.shape) &&
           (part.dtype.empty() || stored.dtype == part.dtype);
  } catch (const BadPart&) {
    return false;
  } catch (const FailedRead&) {
    return false;
  }
}

void PartChecker::release() {
  window_.release(FileWindow::kHead);
  window_.release(FileWindow::kTail);
  window_.release(FileWindow::kRuns);
}

}  // namespace shardplan::data
