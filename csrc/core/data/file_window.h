#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/data/zip_part.h"

namespace shardplan::data {

/// Reads a file through stretches of it that are kept in memory. Not thread-safe.
class FileWindow {
 public:
  /// Two stretches can be kept, for example the head and the tail of a part.
  enum Slot : std::uint8_t { kHead, kTail };

  /// Forgets all stretches. From now on, bytes come from `bytes`, which must outlive the use.
  void open(const PartBytes& bytes);

  /// Reads `count` bytes from `offset` on into a slot, in place of what the slot had. Keeps fewer
  /// bytes if the file ends earlier.
  void keep(Slot slot, std::uint64_t offset, std::size_t count);

  /// Returns the kept bytes from `offset` on, or null unless all `count` bytes are in one slot.
  const char* find(std::uint64_t offset, std::size_t count) const;

  /// Reads bytes from memory, or else from the file. Returns their number; fewer than `count` only
  /// at the end of the file.
  std::size_t read(std::uint64_t offset, char* into, std::size_t count);

  /// Returns the number of bytes read from files, and of the calls.
  std::uint64_t bytes_read() const { return bytes_read_; }
  std::uint64_t reads() const { return reads_; }

 private:
  struct Stretch {
    std::uint64_t begin = 0;
    std::size_t size = 0;
    std::vector<char> bytes;
  };

  std::size_t read_file(std::uint64_t offset, char* into, std::size_t count);

  const PartBytes* source_ = nullptr;
  std::array<Stretch, 2> kept_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t reads_ = 0;
};

}  // namespace shardplan::data
