#include "core/boxes/mesh.h"

#include <stdexcept>

namespace shardplan::boxes {

std::size_t rank_count(std::span<const std::int64_t> mesh_shape) {
  if (mesh_shape.empty()) throw std::invalid_argument("a mesh must have at least one dim");
  std::size_t ranks = 1;
  for (const std::int64_t size : mesh_shape) {
    if (size < 1) throw std::invalid_argument("a mesh must not have an empty dim");
    if (static_cast<std::uint64_t>(size) > kMaxRanks / ranks) {
      throw std::invalid_argument("a mesh must have at most 1,048,576 ranks");
    }
    ranks *= static_cast<std::size_t>(size);
  }
  return ranks;
}

}  // namespace shardplan::boxes
