#include "core/wire/bytes.h"

#include <charconv>
#include <iterator>
#include <string>

namespace shardplan::wire {

std::uint64_t ByteReader::long_varint(std::uint64_t low) {
  std::uint64_t value = low & 0x7F;
  for (int shift = 7; shift < 64; shift += 7) {
    const std::uint64_t next = byte();
    if (shift == 63 && next > 1) break;
    value |= (next & 0x7F) << shift;
    if (next < 0x80) return value;
  }
  fail("has a number that does not fit 64 bits");
}

std::uint64_t ByteReader::fixed64() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 8) value |= static_cast<std::uint64_t>(byte()) << shift;
  return value;
}

void ByteReader::fail(std::string_view what) const {
  throw BadWire(std::string(what) + ", at byte " + std::to_string(at_) + " of " +
                std::to_string(bytes_.size()));
}

void ByteReader::fail_range(const char* thing, std::uint64_t value, std::uint64_t limit) const {
  fail("has " + std::string(thing) + " " + std::to_string(value) + ", which is not below " +
       std::to_string(limit));
}

void ByteReader::fail_count(std::uint64_t count) const {
  fail("has a list of " + std::to_string(count) + " elements in " + std::to_string(left()) +
       " bytes");
}

void ByteReader::fail_bits(const char* thing, std::uint64_t bits) const {
  char digits[2 * sizeof bits];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), bits, 16).ptr;
  fail("has unknown bits in " + std::string(thing) + " 0x" + std::string(digits, end));
}

void ByteReader::fail_truncated(std::uint64_t needed) const {
  fail("is truncated: it needs " + std::to_string(needed) + " more bytes and has " +
       std::to_string(left()));
}

void ByteReader::fail_trailing(const char* thing) const {
  fail("has " + std::to_string(left()) + " bytes after its " + thing);
}

}  // namespace shardplan::wire
