#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace shardplan::util {

/// Non-cryptographic 64-bit hash for detecting corruption and for telling contents apart.
std::uint64_t fingerprint(std::string_view bytes, std::uint64_t seed = 0);

/// A number that no file can know, the same in all of a process: the seed of hash tables whose keys
/// come from files.
std::uint64_t secret_seed();

/// The hash of one number more.
inline std::uint64_t mix(std::uint64_t hash, std::uint64_t number) {
  hash = (hash ^ number) * 0x9E3779B97F4A7C15ULL;
  return hash ^ (hash >> 29);
}

/// Spreads numbers that a file chooses, so that it cannot choose those of one bucket.
struct SecretHash {
  std::size_t operator()(std::uint64_t number) const {
    const std::uint64_t seed = secret_seed();
    std::uint64_t hash = (number ^ seed) * (seed | 1);
    hash = (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15ULL;
    return static_cast<std::size_t>(hash ^ (hash >> 29));
  }
};

}  // namespace shardplan::util
