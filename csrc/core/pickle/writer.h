#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "core/pickle/encoding.h"

namespace shardplan::pickle {

/// Receives the bytes of a pickle, in order.
using Sink = std::function<void(std::string_view)>;

/// Writes a pickle of protocol 4 in frames. Does not memoize the values that it writes.
class Writer {
 public:
  explicit Writer(Sink sink);

  /// Appends opcodes as they are. They must not contain frames.
  void raw(std::string_view opcodes) {
    opcodes.copy(space_for(opcodes.size()), opcodes.size());
    size_ += opcodes.size();
  }
  void code(std::uint8_t opcode) {
    *space_for(1) = static_cast<char>(opcode);
    ++size_;
  }
  /// Pushes memo entry `memo`.
  void get(std::uint32_t memo);
  void text(std::string_view text);
  void number(std::int64_t number) {
    char* const begin = space_for(kNumberSpace);
    size_ += static_cast<std::size_t>(encode_number(begin, number) - begin);
  }
  /// Pushes a tuple of ints.
  void tuple(std::span<const std::int64_t> numbers);

  /// Flushes if the frame is full. Call only between values.
  void flush_if_full() {
    if (size_ - frame_ >= kFrame) next_frame();
  }
  /// Writes STOP and passes the remaining bytes to the sink.
  void stop();

 private:
  static constexpr std::size_t kFrame = std::size_t{1} << 16;
  static constexpr std::size_t kBlock = std::size_t{1} << 20;

  /// Returns where to write the next `bytes` bytes. The caller adds to `size_` what it wrote.
  char* space_for(std::size_t bytes) {
    if (block_.size() - size_ < bytes) grow(bytes);
    return block_.data() + size_;
  }
  void grow(std::size_t bytes);
  /// Appends a number of `bytes` bytes, at most 8, the lowest one first.
  void little_endian(std::uint64_t number, std::size_t bytes);
  void begin_frame();
  void end_frame();
  /// Ends the frame, passes the block to the sink if it is full, and begins a frame.
  void next_frame();
  void flush();

  Sink sink_;
  std::string block_;      // what the sink has not got, and free space
  std::size_t size_ = 0;   // bytes of `block_` that are written
  std::size_t frame_ = 0;  // begin of the contents of the frame
};

}  // namespace shardplan::pickle
