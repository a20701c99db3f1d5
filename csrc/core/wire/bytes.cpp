#include "core/wire/bytes.h"

namespace shardplan::wire {

std::uint64_t ByteReader::long_varint(std::uint64_t low) {
  std::uint64_t value = low & 0x7F;
  for (int shift = 7; shift < 64; shift += 7) {
    const std::uint64_t next = byte();
    if (shift == 63 && next > 1) break;
    value |= (next & 0x7F) << shift;
    if (next < 0x80) return value;
  }
  fail("has a number of more than 64 bits");
}

std::uint64_t ByteReader::fixed64() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 8) value |= static_cast<std::uint64_t>(byte()) << shift;
  return value;
}

void ByteReader::fail(const char* what) const {
  throw BadWire(std::string(what) + ", at byte " + std::to_string(at_) + " of " +
                std::to_string(bytes_.size()));
}

}  // namespace shardplan::wire
