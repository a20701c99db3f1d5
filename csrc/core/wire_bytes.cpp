#include "core/wire_bytes.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

namespace shardplan {

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

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 200));
  std::ranges::replace_if(shown, [](char c) { return c < ' ' || c > '~'; }, '?');
  return shown;
}

std::uint64_t fingerprint(std::string_view bytes, std::uint64_t seed) {
  constexpr std::uint64_t kFirst = 0x9E3779B97F4A7C15ULL;
  constexpr std::uint64_t kSecond = 0xC2B2AE3D27D4EB4FULL;
  std::uint64_t mixed = (seed + bytes.size()) * kFirst;
  const auto mix = [&mixed](std::uint64_t word) {
    mixed ^= std::rotl(word * kSecond, 31) * kFirst;
    mixed = std::rotl(mixed, 27) * kFirst + kSecond;
  };
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    mix(word);
  }
  std::uint64_t tail = 0;
  for (; at < bytes.size(); ++at) tail = tail << 8 | static_cast<std::uint8_t>(bytes[at]);
  mix(tail);
  mixed ^= mixed >> 33;
  mixed *= kSecond;
  return mixed ^ (mixed >> 29);
}

std::uint64_t secret_seed() {
  static const std::uint64_t seed = [] {
    std::random_device device;
    return static_cast<std::uint64_t>(device()) << 32 | device();
  }();
  return seed;
}

}  // namespace shardplan
