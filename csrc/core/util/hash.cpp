#include "core/util/hash.h"

#include <bit>
#include <cstring>
#include <random>

namespace shardplan::util {

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

}  // namespace shardplan::util
