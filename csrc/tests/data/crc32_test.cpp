#include "core/data/crc32.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace shardplan::testing {
namespace {

/// Bitwise reference implementation.
std::uint32_t bit_by_bit(const std::string& bytes) {
  std::uint32_t sum = 0xFFFFFFFF;
  for (const char byte : bytes) {
    sum ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ ((sum & 1) != 0 ? 0xEDB88320 : 0);
  }
  return ~sum;
}

TEST(Crc32, MatchesTheStandardCheckValue) {
  EXPECT_EQ(data::crc32("123456789", 9), 0xCBF43926);
  EXPECT_EQ(data::crc32(nullptr, 0), 0U);
  EXPECT_EQ(data::crc32(nullptr, 0, 7), 7U);
}

TEST(Crc32, AnyLengthInAnyTwoPieces) {
  std::mt19937 random(1);
  std::string bytes;
  for (std::size_t length = 0; length < 70; ++length) {
    const std::uint32_t expected = bit_by_bit(bytes);
    for (std::size_t cut = 0; cut <= length; ++cut) {
      const std::uint32_t first = data::crc32(bytes.data(), cut);
      ASSERT_EQ(data::crc32(bytes.data() + cut, length - cut, first), expected)
          << length << ' ' << cut;
    }
    bytes += static_cast<char>(random());
  }
}

TEST(Crc32, LongerBytesAtAnyAddress) {
  std::mt19937 random(2);
  std::string bytes(5000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (int round = 0; round < 2000; ++round) {
    const std::size_t begin = random() % 100;
    const std::size_t length = random() % (bytes.size() - begin);
    const std::size_t cut = random() % (length + 1);
    const std::uint32_t first = data::crc32(bytes.data() + begin, cut);
    ASSERT_EQ(data::crc32(bytes.data() + begin + cut, length - cut, first),
              bit_by_bit(bytes.substr(begin, length)))
        << begin << ' ' << length << ' ' << cut;
  }
}

}  // namespace
}  // namespace shardplan::testing
