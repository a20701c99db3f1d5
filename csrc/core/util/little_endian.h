#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace shardplan::util {

/// Writes the lowest `bytes` bytes (at most 8) of a number at `out`, the lowest one first.
inline void store_little_endian(char* out, std::uint64_t number, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; ++at) out[at] = static_cast<char>(number >> (8 * at));
}

/// Appends the lowest `bytes` bytes (at most 8) of a number, the lowest one first.
inline void append_little_endian(std::string& out, std::uint64_t number, std::size_t bytes) {
  std::array<char, 8> coded{};
  store_little_endian(coded.data(), number, bytes);
  out.append(coded.data(), bytes);
}

}  // namespace shardplan::util
