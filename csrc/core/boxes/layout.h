#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shardplan::boxes {

/// Placement of a tensor along one mesh dim (`torch.distributed.tensor.placement_types`).
struct Placement {
  enum class Kind : std::uint8_t { kReplicate, kShard, kStridedShard };
  Kind kind = Kind::kReplicate;
  std::int64_t dim = 0;           // sharded tensor dim; unused by kReplicate
  std::int64_t split_factor = 1;  // for kStridedShard only
};

/// Maximum number of placements that `local_box` handles.
inline constexpr std::size_t kMaxPlacements = 32;

/// Computes the box of a tensor held by the rank at `coordinate` of a mesh, in closed form
/// (upstream: `torch.distributed.tensor._utils._compute_local_shape_and_global_offset`).
///
/// As in upstream, shards have ceil(size / ranks) elements and the last ones are shorter or empty;
/// an empty shard starts at the size of the dim. A strided shard is described by its first index
/// and its length, even if its indices are not contiguous.
///
/// shape:                  ndim sizes, all >= 0
/// mesh_shape, coordinate: one number per mesh dim, 0 <= coordinate < mesh_shape
/// placements:             one per mesh dim, applied from left to right; at most kMaxPlacements
/// offsets, sizes:         output, ndim numbers each
///
/// Returns false for unsupported input: arguments outside the ranges above, a sharded dim >= ndim,
/// or results that do not fit int64. The caller then falls back to upstream.
[[nodiscard]] bool local_box(std::span<const std::int64_t> shape,
                             std::span<const std::int64_t> mesh_shape,
                             std::span<const std::int64_t> coordinate,
                             std::span<const Placement> placements, std::int64_t* offsets,
                             std::int64_t* sizes);

/// Returns `placements` adapted to a tensor of `ndim` dims: shards of dims outside [0, ndim) become
/// replicas.
std::vector<Placement> fitted(std::vector<Placement> placements, std::size_t ndim);

}  // namespace shardplan::boxes
