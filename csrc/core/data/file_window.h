#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/data/crc32.h"
#include "core/data/file.h"

namespace shardplan::data {

/// Reads a file through stretches of it that are kept in memory. Not thread-safe.
class FileWindow {
 public:
  /// Stretches that can be kept at once: the head and the tail of a part, and runs of a box.
  enum Slot : std::uint8_t { kHead, kTail, kRuns };

  /// Forgets all stretches. From now on, bytes come from `source`, which must outlive the use.
  void open(const Source& source);

  /// Reads `count` bytes from `offset` on into a slot, in place of what the slot had. Keeps fewer
  /// bytes if the file ends earlier. Throws FailedRead.
  void keep(Slot slot, std::uint64_t offset, std::size_t count);

  /// Gives the bytes of a slot back to the source that lent them. The slot may stay as it is.
  void release(Slot slot);

  /// Returns bytes of the file. Reads them into kRuns unless they are in a slot. They stay until
  /// kRuns is written again. Throws FailedRead, also if the file ends earlier.
  const char* bytes(std::uint64_t offset, std::size_t count);

  /// Returns the CRC-32 of bytes of the file, at most `block` of which are in memory at once. Calls
  /// `check()` before each block. Throws FailedRead, also if the file ends earlier.
  template <class Check>
  std::uint32_t checksum(std::uint64_t offset, std::uint64_t count, std::uint64_t block,
                         Check&& check);

  /// Returns the kept bytes from `offset` on, or null unless all `count` bytes are in one slot.
  const char* find(std::uint64_t offset, std::size_t count) const;

  /// Reads bytes from memory, or else from the file. Returns their number; fewer than `count` only
  /// at the end of the file. Throws FailedRead.
  std::size_t read(std::uint64_t offset, char* into, std::size_t count);

  /// Reads bytes of a part of the file, from `offset` of the part on. Returns their number; fewer
  /// than `count` only at the end of the part or of the file. Throws FailedRead.
  std::size_t read_part(std::uint64_t begin, std::uint64_t length, std::uint64_t offset, char* into,
                        std::size_t count);

  /// Returns the number of bytes read from files, and of the calls.
  std::uint64_t bytes_read() const { return bytes_read_; }
  std::uint64_t reads() const { return reads_; }

 private:
  struct Stretch {
    std::uint64_t begin = 0;
    std::size_t size = 0;
    const char* data = nullptr;
    std::vector<char> bytes;  // memory of this object, which is used again
    LentBytes lent;           // or that of the source
  };

  std::size_t read_file(std::uint64_t offset, char* into, std::size_t count);
  void note_end(std::uint64_t offset, std::size_t wanted, std::size_t got);

  const Source* source_ = nullptr;
  std::array<Stretch, 3> kept_;
  std::uint64_t end_ = 0;  // of the file as far as is known, where no more bytes are asked for
  std::uint64_t bytes_read_ = 0;
  std::uint64_t reads_ = 0;
};

/// Returns the error for a file that ends at a byte within a part.
FailedRead ends_early(std::uint64_t byte);

template <class Check>
std::uint32_t FileWindow::checksum(std::uint64_t offset, std::uint64_t count, std::uint64_t block,
                                   Check&& check) {
  std::uint32_t sum = 0;
  for (std::uint64_t done = 0; done < count;) {
    check();
    const auto more = static_cast<std::size_t>(std::min(block, count - done));
    sum = crc32(bytes(offset + done, more), more, sum);
    release(kRuns);
    done += more;
  }
  return sum;
}

}  // namespace shardplan::data
