#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

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

  /// Returns the number of bytes that a slot has.
  std::size_t kept(Slot slot) const { return kept_[slot].size; }

  /// Gives the bytes of a slot back to the source that lent them. The slot may stay as it is.
  void release(Slot slot);

  /// Returns the kept bytes from `offset` on, or null unless all `count` bytes are in one slot.
  const char* find(std::uint64_t offset, std::size_t count) const;

  /// Reads bytes from memory, or else from the file. Returns their number; fewer than `count` only
  /// at the end of the file. Throws FailedRead.
  std::size_t read(std::uint64_t offset, char* into, std::size_t count);

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

}  // namespace shardplan::data
