#include "core/boxes/validate.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/boxes/box_tree.h"
#include "core/boxes/tiling.h"
#include "core/util/checked.h"

namespace shardplan::boxes {
namespace {

/// Returns true if, in the given order, each box starts along `dim` at or after the end of its
/// predecessor.
bool in_sequence(const Boxes& boxes, std::size_t dim) {
  for (std::size_t box = 1; box < boxes.size(); ++box) {
    if (boxes.start(box, dim) < boxes.end(box - 1, dim)) return false;
  }
  return true;
}

/// Same, with the boxes sorted along `dim`.
bool separated_along(const Boxes& boxes, std::size_t dim) {
  std::vector<std::pair<std::int64_t, std::int64_t>> spans(boxes.size());
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    spans[box] = {boxes.start(box, dim), boxes.end(box, dim)};
  }
  std::sort(spans.begin(), spans.end());
  for (std::size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].first < spans[i - 1].second) return false;
  }
  return true;
}

/// Returns true if no size along `dim` is negative and the sizes sum to at most the extent of all
/// boxes. Otherwise the boxes cannot be disjoint along `dim`.
bool fits_along(const Boxes& boxes, std::size_t dim) {
  std::int64_t covered = 0;
  std::int64_t first = boxes.start(0, dim);
  std::int64_t last = boxes.end(0, dim);
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    std::int64_t size = 0;
    if (!util::checked_sub(boxes.end(box, dim), boxes.start(box, dim), size) || size < 0 ||
        !util::checked_add(covered, size, covered)) {
      return false;
    }
    first = std::min(first, boxes.start(box, dim));
    last = std::max(last, boxes.end(box, dim));
  }
  std::int64_t extent = 0;
  return util::checked_sub(last, first, extent) && covered <= extent;
}

/// Returns true if an in-bounds box has zero size at the start or the end of a dim, as empty shards
/// have. Such a box overlaps no other.
bool empty_at_end(const Boxes& boxes, std::size_t box, std::span<const std::int64_t> shape) {
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    const std::int64_t start = boxes.start(box, dim);
    if (start == boxes.end(box, dim) && (start == 0 || start == shape[dim])) return true;
  }
  return false;
}

}  // namespace

bool any_overlap(const Boxes& boxes) {
  if (boxes.size() < 2) return false;
  for (std::size_t dim = 0; dim < boxes.ndim(); ++dim) {
    if (!fits_along(boxes, dim)) continue;
    if (in_sequence(boxes, dim) || separated_along(boxes, dim)) return false;
  }
  return BoxTree(boxes).self_overlaps();
}

Fault check_boxes(const Boxes& boxes, std::span<const std::int64_t> shape, bool must_fill) {
  if (shape.empty()) return Fault::kNone;
  Tiling tiling(shape);
  std::int64_t filled = 0;
  bool empty_inside = false;
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    if (!in_bounds(boxes, box, shape)) return Fault::kOutOfBounds;
    std::int64_t elements = 0;
    if (!volume(boxes, box, elements) || !util::checked_add(filled, elements, filled)) {
      return Fault::kTooLarge;
    }
    if (elements != 0) {
      tiling.add(boxes.starts(box), boxes.ends(box));
    } else if (!empty_at_end(boxes, box, shape)) {
      empty_inside = true;
    }
  }
  std::int64_t elements = 0;
  const bool known = volume(shape, elements);
  if (must_fill && !known) return Fault::kTooLarge;
  const bool full = known && filled == elements;
  if (must_fill && !full) return Fault::kFill;
  // Boxes whose volumes sum to that of the tensor overlap unless they tile it. Tiling ignores empty
  // boxes, so those inside the tensor need the pairwise check.
  const bool overlap = full && !empty_inside ? !tiling.complete() : any_overlap(boxes);
  return overlap ? Fault::kOverlap : Fault::kNone;
}

}  // namespace shardplan::boxes
