#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>

namespace shardplan::testing {

/// Random numbers that do not depend on the standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// Takes numbers from `bytes`, and those of seed 0 once all bytes are used. With it a fuzzer
  /// steers what a generator makes.
  explicit Random(std::string_view bytes) : engine_(0), bytes_(bytes) {}

  /// Returns a number in [low, high].
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(index(static_cast<std::size_t>(high - low) + 1));
  }
  std::size_t index(std::size_t count) {
    return static_cast<std::size_t>((bytes_.empty() ? engine_() : taken(count)) % count);
  }
  bool one_in(std::size_t count) { return index(count) == 0; }

 private:
  /// Takes as many bytes as a number below `count` needs.
  std::uint64_t taken(std::size_t count) {
    std::uint64_t number = 0;
    for (std::uint64_t range = 1; range < count && !bytes_.empty(); range <<= 8) {
      number = number << 8 | static_cast<std::uint8_t>(bytes_[0]);
      bytes_.remove_prefix(1);
      if (range > UINT64_MAX >> 8) break;
    }
    return number;
  }

  std::mt19937_64 engine_;
  std::string_view bytes_;
};

}  // namespace shardplan::testing
