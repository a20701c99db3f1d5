#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/pickle/machine.h"

namespace shardplan::pickle {

/// Buffered reader of a Source. Reads past the end throw BadPickle.
class Input {
 public:
  explicit Input(const Source& source) : source_(source), window_(kFirst) {}

  /// Returns the offset of the next byte.
  std::uint64_t position() const { return before_ + at_; }

  std::uint8_t byte() {
    if (at_ == end_) need(1);
    return static_cast<std::uint8_t>(window_[at_++]);
  }

  /// Reads a little-endian number of `kBytes` bytes.
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

  /// Reads `length` bytes. The result is valid until the next call.
  std::string_view bytes(std::uint64_t length) {
    if (length > end_ - at_) need(length);
    at_ += static_cast<std::size_t>(length);
    return {window_.data() + at_ - static_cast<std::size_t>(length),
            static_cast<std::size_t>(length)};
  }

  /// Skips `expected` and returns true if these bytes come next and are buffered. May return false
  /// for bytes that do come next but are not buffered yet.
  bool take(std::string_view expected) {
    if (end_ - at_ < expected.size() ||
        std::memcmp(window_.data() + at_, expected.data(), expected.size()) != 0) {
      return false;
    }
    at_ += expected.size();
    return true;
  }

  /// Undoes the last `bytes` bytes of a `take`. Call directly after it.
  void give_back(std::size_t bytes) { at_ -= bytes; }

  /// Reads up to the next line feed and returns the line without it. The result is valid until the
  /// next call.
  std::string_view line();

  /// Skips ahead until `position` bytes have been read from the source. Throws if it ends earlier.
  void read_to(std::uint64_t position);

  /// Throws BadPickle with the predicate `what` and the current offset.
  [[noreturn]] void fail(const std::string& what) const;
  std::string where() const { return "at byte " + std::to_string(position()); }

 private:
  // The buffer starts small and doubles up to kBlock while the source fills it.
  static constexpr std::size_t kFirst = std::size_t{1} << 12;
  static constexpr std::size_t kBlock = std::size_t{1} << 18;

  /// Buffers at least `length` bytes or throws. The buffer grows with the bytes that the source
  /// gives, not with `length`.
  void need(std::uint64_t length);
  bool read_more();

  const Source& source_;
  std::vector<char> window_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  bool filled_ = false;       // true if the last read filled the buffer
  std::uint64_t before_ = 0;  // number of bytes dropped from the buffer
};

}  // namespace shardplan::pickle
