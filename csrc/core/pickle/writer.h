#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace shardplan::pickle {

/// Receives the bytes of a pickle, in order.
using Sink = std::function<void(std::string_view)>;

/// Writes a pickle of protocol 4 in frames. Does not memoize the values that it writes.
class Writer {
 public:
  explicit Writer(Sink sink);

  /// Appends opcodes as they are. They must not contain frames.
  void raw(std::string_view opcodes) { frame_.append(opcodes); }
  void code(std::uint8_t opcode) { frame_.push_back(static_cast<char>(opcode)); }
  /// Pushes memo entry `memo`.
  void get(std::uint32_t memo);
  void text(std::string_view text);
  void number(std::int64_t number);
  /// Pushes a tuple of ints.
  void tuple(std::span<const std::int64_t> numbers);

  /// Flushes if the frame is full. Call only between values.
  void flush_if_full() {
    if (frame_.size() >= kFrame) flush();
  }
  /// Writes STOP and passes the remaining bytes to the sink.
  void stop();

 private:
  static constexpr std::size_t kFrame = std::size_t{1} << 16;
  static constexpr std::size_t kBlock = std::size_t{1} << 20;

  void flush();

  Sink sink_;
  std::string frame_;
  std::string block_;
};

}  // namespace shardplan::pickle
