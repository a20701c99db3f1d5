#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// A bounding-box tree over boxes, for the overlap questions of any layout in near-linear time.
///
/// Each split separates along the dim in which boxes are thinnest against the space they fill, at a
/// start coordinate, so that a cut of a grid or of a k-d split is found as a cut: the two halves'
/// bounds then do not overlap, and no query crosses it. 1-D shards of any dim need no special case.
class BoxTree {
 public:
  explicit BoxTree(const Boxes& boxes);

  /// Calls `found(box)` for every box of the tree that overlaps the box at `bounds`
  /// (`ndim` starts, then `ndim` ends), in no particular order.
  template <typename Found>
  void query(const std::int64_t* bounds, Found&& found) const {
    if (nodes_.empty()) return;
    std::size_t pending[kMaxDepth];
    std::size_t depth = 0;
    pending[depth++] = 0;
    while (depth > 0) {
      const std::size_t at = pending[--depth];
      const Node& node = nodes_[at];
      if (!bounds_overlap(node_bounds(at), bounds, ndim_)) continue;
      if (node.right != 0) {
        pending[depth++] = node.right;
        pending[depth++] = at + 1;
        continue;
      }
      for (std::size_t slot = node.begin; slot < node.end; ++slot) {
        if (bounds_overlap(slot_bounds(slot), bounds, ndim_)) found(order_[slot]);
      }
    }
  }

  /// Whether any two boxes of the tree overlap.
  bool self_overlaps() const;

 private:
  // A split leaves at least an eighth on either side, so no input gets near this.
  static constexpr std::size_t kMaxDepth = 256;
  static constexpr std::size_t kLeafSize = 8;

  struct Node {
    std::size_t begin;
    std::size_t end;
    std::size_t right;  // index of the right child; 0 for a leaf. The left child is the next node.
  };

  std::size_t build(std::size_t begin, std::size_t end, std::size_t depth);
  std::size_t thinnest_dim(std::size_t begin, std::size_t end, std::size_t node) const;
  std::size_t split(std::size_t begin, std::size_t end, std::size_t node);
  std::size_t partition(std::size_t begin, std::size_t end, std::size_t dim, std::int64_t limit);
  bool pair_overlaps(std::size_t a, std::size_t b) const;
  bool leaf_overlaps(const Node& leaf) const;
  bool leaves_overlap(const Node& a, const Node& b) const;

  const std::int64_t* node_bounds(std::size_t node) const {
    return node_bounds_.data() + node * 2 * ndim_;
  }
  const std::int64_t* slot_bounds(std::size_t slot) const {
    return slot_bounds_.data() + slot * 2 * ndim_;
  }

  std::size_t ndim_;
  std::vector<std::size_t> order_;         // slot -> box
  std::vector<std::int64_t> slot_bounds_;  // bounds by slot, so that neighbours are adjacent
  std::vector<Node> nodes_;
  std::vector<std::int64_t> node_bounds_;
  std::vector<std::int64_t> scratch_;
};

}  // namespace shardplan::boxes
