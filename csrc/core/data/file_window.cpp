#include "core/data/file_window.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "core/util/text.h"

namespace shardplan::data {
namespace {

FailedRead failed_at(std::uint64_t offset, const std::system_error& error) {
  return {"cannot be read at byte " + util::grouped(offset), error.code().value()};
}

}  // namespace

void FileWindow::open(const Source& source) {
  source_ = &source;
  end_ = std::numeric_limits<std::uint64_t>::max();
  for (Stretch& stretch : kept_) {
    stretch.size = 0;
    stretch.lent = {};
  }
}

void FileWindow::keep(Slot slot, std::uint64_t offset, std::size_t count) {
  Stretch& stretch = kept_[slot];
  stretch.begin = offset;
  stretch.size = 0;
  stretch.lent = {};
  if (offset >= end_) return;
  std::optional<LentBytes> lent;
  try {
    lent = source_->lend(offset, count);
  } catch (const std::system_error& error) {
    throw failed_at(offset, error);
  }
  if (lent) {
    stretch.lent = std::move(*lent);
    stretch.data = stretch.lent.data;
    stretch.size = std::min(stretch.lent.size, count);
    bytes_read_ += stretch.size;
    ++reads_;
    note_end(offset, count, stretch.size);
    return;
  }
  if (stretch.bytes.size() < count) stretch.bytes.resize(count);
  stretch.data = stretch.bytes.data();
  stretch.size = read_file(offset, stretch.bytes.data(), count);
}

void FileWindow::release(Slot slot) {
  Stretch& stretch = kept_[slot];
  if (stretch.lent.owner == nullptr) return;
  stretch.size = 0;
  stretch.lent = {};
}

const char* FileWindow::bytes(std::uint64_t offset, std::size_t count) {
  if (const char* known = find(offset, count); known != nullptr) return known;
  keep(kRuns, offset, count);
  const char* const read = find(offset, count);
  if (read == nullptr) throw ends_early(offset + kept_[kRuns].size);
  return read;
}

const char* FileWindow::find(std::uint64_t offset, std::size_t count) const {
  for (const Stretch& stretch : kept_) {
    if (offset < stretch.begin || offset - stretch.begin > stretch.size) continue;
    if (count <= stretch.size - (offset - stretch.begin)) {
      return stretch.data + (offset - stretch.begin);
    }
  }
  return nullptr;
}

std::size_t FileWindow::read(std::uint64_t offset, char* into, std::size_t count) {
  if (const char* kept = find(offset, count); kept != nullptr) {
    std::memcpy(into, kept, count);
    return count;
  }
  return read_file(offset, into, count);
}

std::size_t FileWindow::read_part(std::uint64_t begin, std::uint64_t length, std::uint64_t offset,
                                  char* into, std::size_t count) {
  if (offset >= length) return 0;
  const std::uint64_t left = length - offset;
  return read(begin + offset, into, static_cast<std::size_t>(std::min<std::uint64_t>(count, left)));
}

void FileWindow::note_end(std::uint64_t offset, std::size_t wanted, std::size_t got) {
  if (got < wanted) end_ = std::min(end_, offset + got);
}

std::size_t FileWindow::read_file(std::uint64_t offset, char* into, std::size_t count) {
  std::size_t done = 0;
  while (done < count && offset + done < end_) {
    std::size_t got = 0;
    try {
      got = source_->read_at(offset + done, into + done, count - done);
    } catch (const std::system_error& error) {
      throw failed_at(offset + done, error);
    }
    if (got > count - done) break;
    done += got;
    ++reads_;
    if (got == 0) note_end(offset, count, done);
  }
  bytes_read_ += done;
  return done;
}

FailedRead ends_early(std::uint64_t byte) {
  return {"ends at byte " + util::grouped(byte) + ", within the part"};
}

}  // namespace shardplan::data
