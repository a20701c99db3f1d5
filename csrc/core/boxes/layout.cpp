#include "core/boxes/layout.h"

#include <algorithm>
#include <array>

#include "core/util/checked.h"

namespace shardplan::boxes {
namespace {

/// Indices [start, start + length) of a dim.
struct Run {
  std::int64_t start;
  std::int64_t length;
};

/// Splits a dim of `size` into `ranks` runs as torch.chunk does, and sets `out` to that of `rank`.
bool chunk(std::int64_t size, std::int64_t ranks, std::int64_t rank, Run& out) {
  const std::int64_t full = size / ranks + (size % ranks != 0 ? 1 : 0);
  std::int64_t start = 0;
  if (!util::checked_mul(full, rank, start)) return false;
  out.start = std::min(size, start);
  out.length = std::min(full, size - out.start);
  return true;
}

/// Indices of a dim that a rank keeps. The dim is divided into `pieces` full pieces of `stride`
/// indices and one shorter piece; the rank keeps the run `whole` of each full piece and the run
/// `rest` of the shorter one. A plain shard has one full piece.
struct Kept {
  std::int64_t stride = 0;
  std::int64_t pieces = 1;
  Run whole{0, 0};
  Run rest{0, 0};

  std::int64_t length() const { return pieces * whole.length + rest.length; }

  /// Maps index `i` among the kept indices to its index in the dim, for 0 <= i < length().
  std::int64_t before(std::int64_t i) const {
    const std::int64_t in_whole = pieces * whole.length;
    if (i < in_whole) return i / whole.length * stride + whole.start + i % whole.length;
    return pieces * stride + rest.start + (i - in_whole);
  }
};

bool keep(const Placement& placement, std::int64_t size, std::int64_t ranks, std::int64_t rank,
          Kept& out) {
  out = Kept{};
  if (placement.kind == Placement::Kind::kShard) return chunk(size, ranks, rank, out.whole);
  if (size == 0) return true;
  out.stride = size / placement.split_factor + (size % placement.split_factor != 0 ? 1 : 0);
  out.pieces = size / out.stride;
  return chunk(out.stride, ranks, rank, out.whole) &&
         chunk(size % out.stride, ranks, rank, out.rest);
}

bool supported(std::span<const std::int64_t> shape, std::span<const std::int64_t> mesh_shape,
               std::span<const std::int64_t> coordinate, std::span<const Placement> placements) {
  if (placements.size() > kMaxPlacements || placements.size() > mesh_shape.size() ||
      mesh_shape.size() != coordinate.size()) {
    return false;
  }
  for (const std::int64_t size : shape) {
    if (size < 0) return false;
  }
  for (std::size_t i = 0; i < placements.size(); ++i) {
    const Placement& placement = placements[i];
    if (placement.kind == Placement::Kind::kReplicate) continue;
    if (placement.dim < 0 || static_cast<std::size_t>(placement.dim) >= shape.size()) return false;
    if (coordinate[i] < 0 || coordinate[i] >= mesh_shape[i]) return false;
    if (placement.split_factor < 1) return false;
  }
  return true;
}

}  // namespace

bool local_box(std::span<const std::int64_t> shape, std::span<const std::int64_t> mesh_shape,
               std::span<const std::int64_t> coordinate, std::span<const Placement> placements,
               std::int64_t* offsets, std::int64_t* sizes) {
  if (!supported(shape, mesh_shape, coordinate, placements)) return false;
  std::copy(shape.begin(), shape.end(), sizes);
  std::fill(offsets, offsets + shape.size(), 0);

  std::array<Kept, kMaxPlacements> steps;
  for (std::size_t i = 0; i < placements.size(); ++i) {
    if (placements[i].kind == Placement::Kind::kReplicate) continue;
    std::int64_t& size = sizes[placements[i].dim];
    if (!keep(placements[i], size, mesh_shape[i], coordinate[i], steps[i])) return false;
    size = steps[i].length();
  }
  // Map the first kept index back through the steps, last to first.
  for (std::size_t i = placements.size(); i-- > 0;) {
    if (placements[i].kind == Placement::Kind::kReplicate) continue;
    const auto dim = static_cast<std::size_t>(placements[i].dim);
    offsets[dim] = sizes[dim] == 0 ? shape[dim] : steps[i].before(offsets[dim]);
  }
  return true;
}

std::vector<Placement> fitted(std::vector<Placement> placements, std::size_t ndim) {
  for (Placement& placement : placements) {
    if (placement.dim < 0 || static_cast<std::size_t>(placement.dim) >= ndim) placement = {};
  }
  return placements;
}

}  // namespace shardplan::boxes
