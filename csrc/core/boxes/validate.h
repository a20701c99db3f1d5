#pragma once

#include <cstdint>
#include <span>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// Result of the first check that fails.
enum class Fault : std::uint8_t {
  kNone,
  kOutOfBounds,  // a negative offset or size, or an end beyond the shape
  kOverlap,      // two boxes overlap in the sense of `bounds_overlap`
  kFill,         // the volumes do not sum to that of the tensor
  kTooLarge,     // a volume does not fit int64
};

/// Checks the saved boxes of one tensor (upstream: `default_planner._validate_global_plan`): every
/// box is in bounds, no two boxes overlap and, if `must_fill`, their volumes sum to that of
/// `shape`.
///
/// Linear if the volumes sum to that of `shape` and no zero-size box is inside the tensor;
/// otherwise as `any_overlap`. `shape` must have `boxes.ndim()` dims. As in upstream, 0-d tensors
/// are always valid.
Fault check_boxes(const Boxes& boxes, std::span<const std::int64_t> shape, bool must_fill);

/// Returns true if any two boxes overlap. Near-linear for shards of one dim, for grids and for
/// balanced recursive splits, in any order. Quadratic in the worst case (boxes nested around a
/// corner or a center).
bool any_overlap(const Boxes& boxes);

}  // namespace shardplan::boxes
