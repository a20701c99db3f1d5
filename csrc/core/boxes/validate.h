#pragma once

#include <cstdint>
#include <span>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// What the first check that a set of boxes fails finds wrong.
enum class Fault : std::uint8_t {
  kNone,
  kOutOfBounds,  // a negative offset or size, or an end past the tensor's
  kOverlap,      // two boxes share elements, or a zero-size one lies inside another
  kFill,         // the volumes do not add up to the tensor's
  kTooLarge,     // a volume does not fit int64
};

/// Checks the saved boxes of one tensor (`default_planner._validate_global_plan`): all in bounds,
/// no two overlapping and, where `must_fill`, volumes adding up to that of `shape`.
///
/// Linear, whatever the layout and the order, where the volumes add up and no zero-size box lies
/// inside the tensor; where not, as `any_overlap`.
/// `shape` has as many dims as the boxes; 0-d tensors are always valid, as upstream.
Fault check_boxes(const Boxes& boxes, std::span<const std::int64_t> shape, bool must_fill);

/// Whether any two boxes overlap. Near-linear for shards of any one dim, for grids of any dimension
/// and for recursive splits into parts of like size, in any order; quadratic at worst (boxes that
/// nest about a corner or a centre).
bool any_overlap(const Boxes& boxes);

}  // namespace shardplan::boxes
