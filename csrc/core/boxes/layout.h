#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shardplan::boxes {

/// How a tensor lies along one dim of a mesh (`torch.distributed.tensor.placement_types`).
struct Placement {
  enum class Kind : std::uint8_t { kReplicate, kShard, kStridedShard };
  Kind kind = Kind::kReplicate;
  std::int64_t dim = 0;           // the tensor dim that is sharded
  std::int64_t split_factor = 1;  // of a strided shard
};

/// More placements than this are left to upstream.
inline constexpr std::size_t kMaxPlacements = 32;

/// The box that the rank at `coordinate` of a mesh holds of a tensor, in closed form
/// (`torch.distributed.tensor._utils._compute_local_shape_and_global_offset`).
///
/// As upstream: shards are ceil(size / ranks) long, the last ones shorter or empty; an empty shard
/// starts at the size of the dim; a strided shard is given by its first index and its length, also
/// where its indices do not lie together.
///
/// shape:       ndim sizes, none negative
/// mesh_shape, coordinate: one number a mesh dim, 0 <= coordinate < mesh_shape
/// placements:  one a mesh dim, applied from left to right; at most kMaxPlacements
/// offsets, sizes: ndim numbers each, written
///
/// Returns false for what it does not cover (arguments outside the above, a sharded dim that the
/// tensor lacks, numbers beyond int64): ask upstream then.
[[nodiscard]] bool local_box(std::span<const std::int64_t> shape,
                             std::span<const std::int64_t> mesh_shape,
                             std::span<const std::int64_t> coordinate,
                             std::span<const Placement> placements, std::int64_t* offsets,
                             std::int64_t* sizes);

/// Placements for a tensor of `ndim` dims: those of a dim that it lacks replicate.
std::vector<Placement> fitted(std::vector<Placement> placements, std::size_t ndim);

}  // namespace shardplan::boxes
