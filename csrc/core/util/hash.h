#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace shardplan::util {

/// Non-cryptographic 64-bit hash for detecting corruption and for telling contents apart.
std::uint64_t fingerprint(std::string_view bytes, std::uint64_t seed = 0);

/// Returns a random number that is fixed within a process: the seed of hash tables whose keys come
/// from files.
std::uint64_t secret_seed();

/// Adds a number to a hash.
inline std::uint64_t mix(std::uint64_t hash, std::uint64_t number) {
  hash = (hash ^ number) * 0x9E3779B97F4A7C15ULL;
  return hash ^ (hash >> 29);
}

/// Hashes a number from a file. The multiplier is secret, so a file cannot choose numbers that
/// share a bucket.
struct SecretHash {
  std::size_t operator()(std::uint64_t number) const {
    const std::uint64_t seed = secret_seed();
    const std::uint64_t product = (number ^ seed) * (seed | 1);
    return static_cast<std::size_t>(mix(product, product >> 32));
  }
};

}  // namespace shardplan::util
