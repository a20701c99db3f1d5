#include "core/data/file_window.h"

#include <cstring>

namespace shardplan::data {

void FileWindow::open(const PartBytes& bytes) {
  source_ = &bytes;
  for (Stretch& stretch : kept_) stretch.size = 0;
}

void FileWindow::keep(Slot slot, std::uint64_t offset, std::size_t count) {
  Stretch& stretch = kept_[slot];
  if (stretch.bytes.size() < count) stretch.bytes.resize(count);
  stretch.begin = offset;
  stretch.size = 0;  // in case the read throws
  stretch.size = read_file(offset, stretch.bytes.data(), count);
}

const char* FileWindow::find(std::uint64_t offset, std::size_t count) const {
  for (const Stretch& stretch : kept_) {
    if (offset < stretch.begin || offset - stretch.begin > stretch.size) continue;
    if (count <= stretch.size - (offset - stretch.begin)) {
      return stretch.bytes.data() + (offset - stretch.begin);
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

std::size_t FileWindow::read_file(std::uint64_t offset, char* into, std::size_t count) {
  std::size_t done = 0;
  while (done < count) {
    const std::size_t got = (*source_)(offset + done, into + done, count - done);
    if (got == 0 || got > count - done) break;
    done += got;
    ++reads_;
  }
  bytes_read_ += done;
  return done;
}

}  // namespace shardplan::data
