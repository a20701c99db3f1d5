#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace shardplan::wire {

/// Bytes that arrived are not what was sent; says what is wrong, and at which byte.
class BadWire : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A small number for each of -1, 1, -2, ...: what is near 0 takes one byte.
inline std::uint64_t zigzag(std::int64_t number) {
  return (static_cast<std::uint64_t>(number) << 1) ^ static_cast<std::uint64_t>(number >> 63);
}
inline std::int64_t unzigzag(std::uint64_t number) {
  return static_cast<std::int64_t>((number >> 1) ^ (~(number & 1) + 1));
}

/// Numbers and strings to bytes.
class ByteWriter {
 public:
  void byte(std::uint8_t value) { bytes_.push_back(static_cast<char>(value)); }

  /// Seven bits a byte, least first; the top bit says that more follow.
  void varint(std::uint64_t value) {
    while (value >= 0x80) {
      byte(static_cast<std::uint8_t>(value | 0x80));
      value >>= 7;
    }
    byte(static_cast<std::uint8_t>(value));
  }
  void number(std::int64_t value) { varint(zigzag(value)); }
  void fixed64(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) byte(static_cast<std::uint8_t>(value >> shift));
  }
  void raw(std::string_view text) { bytes_.append(text); }
  void string(std::string_view text) {
    varint(text.size());
    raw(text);
  }

  std::size_t size() const { return bytes_.size(); }
  std::string take() { return std::move(bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Bytes to numbers and strings. Every read is checked: past the end it throws BadWire.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  std::size_t left() const { return bytes_.size() - at_; }

  std::uint8_t byte() {
    if (at_ == bytes_.size()) fail("ends too early");
    return static_cast<std::uint8_t>(bytes_[at_++]);
  }
  std::uint64_t varint() {
    const std::uint64_t first = byte();
    return first < 0x80 ? first : long_varint(first);
  }
  std::int64_t number() { return unzigzag(varint()); }
  std::uint64_t fixed64();
  std::string_view raw(std::size_t length) {
    if (length > left()) fail("ends too early");
    at_ += length;
    return bytes_.substr(at_ - length, length);
  }
  std::string_view string() { return raw(count()); }

  /// The length of a list whose every element takes at least one byte.
  std::size_t count() {
    const std::uint64_t length = varint();
    if (length > left()) fail("counts more than it holds");
    return static_cast<std::size_t>(length);
  }
  /// An index into a table of `limit` rows.
  std::uint32_t index(std::size_t limit) {
    const std::uint64_t value = varint();
    if (value >= limit) fail("points outside a table");
    return static_cast<std::uint32_t>(value);
  }

  [[noreturn]] void fail(const char* what) const;

 private:
  std::uint64_t long_varint(std::uint64_t low);

  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace shardplan::wire
