#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace shardplan::util {

/// Returns a non-cryptographic 64-bit hash, for detecting corruption and comparing contents.
std::uint64_t fingerprint(std::string_view bytes, std::uint64_t seed = 0);

/// Returns the random seed of this process, for hash tables whose keys come from files. A file
/// cannot predict it, so it cannot force collisions.
std::uint64_t secret_seed();

/// Combines `hash` with one more number.
inline std::uint64_t mix(std::uint64_t hash, std::uint64_t number) {
  hash = (hash ^ number) * 0x9E3779B97F4A7C15ULL;
  return hash ^ (hash >> 29);
}

/// Seeded hash of an integer, for hash tables whose keys come from files.
struct SecretHash {
  std::size_t operator()(std::uint64_t number) const {
    const std::uint64_t seed = secret_seed();
    std::uint64_t hash = (number ^ seed) * (seed | 1);
    hash = (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15ULL;
    return static_cast<std::size_t>(hash ^ (hash >> 29));
  }
};

}  // namespace shardplan::util
