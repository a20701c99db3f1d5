#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace shardplan::wire {

/// Thrown for received bytes that cannot be decoded. The message is a predicate without a subject
/// ("has ...", "is ..."), so that callers can name the subject. It usually ends with the byte
/// offset.
class BadWire : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Zigzag encoding: maps 0, -1, 1, -2, ... to 0, 1, 2, 3, ..., so that numbers near 0 have short
/// varints.
inline std::uint64_t zigzag(std::int64_t number) {
  return (static_cast<std::uint64_t>(number) << 1) ^ static_cast<std::uint64_t>(number >> 63);
}
inline std::int64_t unzigzag(std::uint64_t number) {
  return static_cast<std::int64_t>((number >> 1) ^ (~(number & 1) + 1));
}

/// Appends numbers and strings to a byte string.
class ByteWriter {
 public:
  void byte(std::uint8_t value) { bytes_.push_back(static_cast<char>(value)); }

  /// LEB128: seven bits per byte, least significant first; the top bit marks that more bytes
  /// follow.
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

/// Reads numbers and strings from bytes. All reads are bounds-checked and throw BadWire.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  std::size_t left() const { return bytes_.size() - at_; }

  std::uint8_t byte() {
    if (at_ == bytes_.size()) fail_truncated(1);
    return static_cast<std::uint8_t>(bytes_[at_++]);
  }
  std::uint64_t varint() {
    const std::uint64_t first = byte();
    return first < 0x80 ? first : long_varint(first);
  }
  std::int64_t number() { return unzigzag(varint()); }
  std::uint64_t fixed64();
  std::string_view raw(std::size_t length) {
    if (length > left()) fail_truncated(length);
    at_ += length;
    return bytes_.substr(at_ - length, length);
  }
  std::string_view string() { return raw(count()); }

  /// Reads the length of a list whose elements take at least one byte each.
  std::size_t count() {
    const std::uint64_t length = varint();
    if (length > left()) fail_count(length);
    return static_cast<std::size_t>(length);
  }
  /// Reads a number below `limit`. `thing` names it in the error.
  std::uint32_t index(std::size_t limit, const char* thing = "index") {
    const std::uint64_t value = varint();
    if (value >= limit) fail_range(thing, value, limit);
    return static_cast<std::uint32_t>(value);
  }
  /// Throws if bytes are left after `thing`.
  void expect_end(const char* thing) const {
    if (left() != 0) fail_trailing(thing);
  }

  /// Throws BadWire with the predicate `what` and the current offset.
  [[noreturn]] void fail(std::string_view what) const;
  /// Throws for a number that is not below `limit`.
  [[noreturn]] void fail_range(const char* thing, std::uint64_t value, std::uint64_t limit) const;
  /// Throws for a count of elements that is larger than the number of bytes left.
  [[noreturn]] void fail_count(std::uint64_t count) const;
  /// Throws for a bit mask with bits that have no meaning.
  [[noreturn]] void fail_bits(const char* thing, std::uint64_t bits) const;

 private:
  std::uint64_t long_varint(std::uint64_t low);
  [[noreturn]] void fail_truncated(std::uint64_t needed) const;
  [[noreturn]] void fail_trailing(const char* thing) const;

  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace shardplan::wire
