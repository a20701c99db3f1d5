#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace shardplan::pickle {

/// Takes bytes of a pickle, in order.
using Sink = std::function<void(std::string_view)>;

/// Writes a pickle of protocol 4, frame by frame. What it writes by itself it does not memoize.
class Writer {
 public:
  explicit Writer(Sink sink);

  /// Opcodes as they are; may not have frames.
  void raw(std::string_view opcodes) { frame_.append(opcodes); }
  void code(std::uint8_t opcode) { frame_.push_back(static_cast<char>(opcode)); }
  /// The value with this number in the memo.
  void get(std::uint32_t memo);
  void text(std::string_view text);
  void number(std::int64_t number);
  /// A tuple of numbers.
  void tuple(std::span<const std::int64_t> numbers);

  /// Between two values: lets what is written go, once it fills a frame.
  void flush_if_full() {
    if (frame_.size() >= kFrame) flush();
  }
  /// Ends the pickle.
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
