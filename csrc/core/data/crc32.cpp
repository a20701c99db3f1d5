#include "core/data/crc32.h"

#include <array>

namespace shardplan::data {
namespace {

constexpr std::size_t kAtOnce = 16;
using Table = std::array<std::uint32_t, 256>;

/// Slicing-by-16 tables: [n][b] is the contribution of byte b if n more bytes follow it.
constexpr std::array<Table, kAtOnce> tables() {
  constexpr std::uint32_t kPolynomial = 0xEDB88320;
  std::array<Table, kAtOnce> made{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? kPolynomial : 0);
    made[0][byte] = value;
  }
  for (std::size_t more = 1; more < kAtOnce; ++more) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t shorter = made[more - 1][byte];
      made[more][byte] = shorter >> 8 ^ made[0][shorter & 0xFF];
    }
  }
  return made;
}

constexpr std::array<Table, kAtOnce> kTables = tables();

std::uint32_t word(const unsigned char* at) {
  return static_cast<std::uint32_t>(at[0]) | static_cast<std::uint32_t>(at[1]) << 8 |
         static_cast<std::uint32_t>(at[2]) << 16 | static_cast<std::uint32_t>(at[3]) << 24;
}

/// Returns the contribution of four bytes that are followed by `after` bytes of the block of 16.
std::uint32_t of_word(std::uint32_t word, std::size_t after) {
  return kTables[after + 3][word & 0xFF] ^ kTables[after + 2][word >> 8 & 0xFF] ^
         kTables[after + 1][word >> 16 & 0xFF] ^ kTables[after][word >> 24];
}

}  // namespace

std::uint32_t crc32(const char* bytes, std::size_t count, std::uint32_t before) {
  const auto* at = reinterpret_cast<const unsigned char*>(bytes);
  std::uint32_t sum = ~before;
  for (; count >= kAtOnce; count -= kAtOnce, at += kAtOnce) {
    sum = of_word(sum ^ word(at), 12) ^ of_word(word(at + 4), 8) ^ of_word(word(at + 8), 4) ^
          of_word(word(at + 12), 0);
  }
  for (; count > 0; --count, ++at) sum = sum >> 8 ^ kTables[0][(sum ^ *at) & 0xFF];
  return ~sum;
}

}  // namespace shardplan::data
