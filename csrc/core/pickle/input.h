#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/pickle/machine.h"

namespace shardplan::pickle {

/// The bytes of a source, with a window on those that come next.
class Input {
 public:
  explicit Input(const Source& source) : source_(source), window_(kFirst) {}

  /// Byte of the pickle that comes next.
  std::uint64_t position() const { return before_ + at_; }

  std::uint8_t byte() {
    if (at_ == end_) need(1);
    return static_cast<std::uint8_t>(window_[at_++]);
  }

  /// A number of `kBytes` bytes, the least first.
  template <std::size_t kBytes>
  std::uint64_t number() {
    if (end_ - at_ < kBytes) need(kBytes);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < kBytes; ++i) {
      value |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(window_[at_ + i])) << (8 * i);
    }
    at_ += kBytes;
    return value;
  }

  /// The next bytes; valid until the next call.
  std::string_view bytes(std::uint64_t length) {
    if (length > end_ - at_) need(length);
    at_ += static_cast<std::size_t>(length);
    return {window_.data() + at_ - static_cast<std::size_t>(length),
            static_cast<std::size_t>(length)};
  }

  /// Takes these bytes where they come next in the window; its end may hide that they do.
  bool take(std::string_view expected) {
    if (end_ - at_ < expected.size() ||
        std::memcmp(window_.data() + at_, expected.data(), expected.size()) != 0) {
      return false;
    }
    at_ += expected.size();
    return true;
  }

  /// Puts back bytes that were just taken.
  void give_back(std::size_t bytes) { at_ -= bytes; }

  /// The bytes up to the next line feed, without it; valid until the next call.
  std::string_view line();

  /// Reads on to where the source has given so many bytes, and keeps none of them. Throws where it
  /// ends before that.
  void read_to(std::uint64_t position);

  [[noreturn]] void fail(const std::string& what) const;
  std::string where() const { return "at byte " + std::to_string(position()); }

 private:
  // The window grows to a block while the source fills it: a small file needs a small one.
  static constexpr std::size_t kFirst = std::size_t{1} << 12;
  static constexpr std::size_t kBlock = std::size_t{1} << 18;

  /// Has `length` bytes in the window, or throws; the window grows as they come.
  void need(std::uint64_t length);
  bool read_more();

  const Source& source_;
  std::vector<char> window_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  bool filled_ = false;       // by the last read
  std::uint64_t before_ = 0;  // bytes that have left the window
};

}  // namespace shardplan::pickle
