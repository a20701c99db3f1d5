#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace shardplan::boxes {

/// Maximum number of ranks of a simulated mesh.
inline constexpr std::size_t kMaxRanks = std::size_t{1} << 20;

/// Returns the number of ranks of a mesh. Throws std::invalid_argument if the mesh has no dims, a
/// size below 1, or more than kMaxRanks ranks.
std::size_t rank_count(std::span<const std::int64_t> mesh_shape);

/// Calls `visit(coordinate)` for each rank in row-major order. Throws as `rank_count`.
template <typename Visit>
void for_each_coordinate(std::span<const std::int64_t> mesh_shape, Visit&& visit) {
  const std::size_t ranks = rank_count(mesh_shape);
  std::vector<std::int64_t> coordinate(mesh_shape.size());
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    visit(std::as_const(coordinate));
    for (std::size_t dim = mesh_shape.size(); dim-- > 0;) {
      if (++coordinate[dim] < mesh_shape[dim]) break;
      coordinate[dim] = 0;
    }
  }
}

}  // namespace shardplan::boxes
