#include "core/boxes/tiling.h"

#include <cstddef>

namespace shardplan::boxes {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kPrime = (std::uint64_t{1} << 61) - 1;

std::uint64_t add_modulo(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t total = a + b;
  return total >= kPrime ? total - kPrime : total;
}

std::uint64_t subtract_modulo(std::uint64_t a, std::uint64_t b) {
  return a >= b ? a - b : a + (kPrime - b);
}

/// 2^61 is 1 modulo the prime, so the high bits are added to the low 61 bits.
std::uint64_t multiply_modulo(std::uint64_t a, std::uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return add_modulo(static_cast<std::uint64_t>(product) & kPrime,
                    static_cast<std::uint64_t>(product >> 61));
}

/// SplitMix64's finalizer.
std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Returns the point to which a coordinate of the dim with this key is mapped.
std::uint64_t point_of(std::uint64_t dim_key, std::int64_t coordinate) {
  const std::uint64_t hash =
      mixed(dim_key + static_cast<std::uint64_t>(coordinate) * 0x9e3779b97f4a7c15);
  return add_modulo(hash & kPrime, hash >> 61);
}

}  // namespace

Tiling::Tiling(std::span<const std::int64_t> shape) {
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    dim_keys_.push_back({mixed(0x7368617264706c61 + dim), mixed(0x6e206d6561737572 + dim)});
  }
  const std::vector<std::int64_t> origin(shape.size(), 0);
  whole_ = volume(origin.data(), shape.data());
}

void Tiling::add(const std::int64_t* starts, const std::int64_t* ends) {
  const Measured added = volume(starts, ends);
  for (std::size_t i = 0; i < added.size(); ++i) covered_[i] = add_modulo(covered_[i], added[i]);
}

Tiling::Measured Tiling::volume(const std::int64_t* starts, const std::int64_t* ends) const {
  Measured product{1, 1};
  for (std::size_t dim = 0; dim < dim_keys_.size(); ++dim) {
    for (std::size_t i = 0; i < product.size(); ++i) {
      const std::uint64_t key = dim_keys_[dim][i];
      product[i] = multiply_modulo(
          product[i], subtract_modulo(point_of(key, ends[dim]), point_of(key, starts[dim])));
    }
  }
  return product;
}

}  // namespace shardplan::boxes
