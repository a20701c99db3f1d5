#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/boxes/box.h"

namespace shardplan::boxes {

/// Bounding-volume hierarchy over boxes, for overlap queries on any layout.
///
/// Each node is split at a start coordinate, along the dim in which its boxes are thinnest relative
/// to the node's extent. On a grid or a k-d split this recovers the original cuts: the bounds of
/// the two children do not overlap, so a query within one child never visits the other.
class BoxTree {
 public:
  explicit BoxTree(const Boxes& boxes);

  /// Calls `found(box)` for every box of the tree that overlaps the box at `bounds`
  /// (`ndim` starts, then `ndim` ends). The order of the calls is unspecified.
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

  /// Returns true if any two boxes of the tree overlap.
  bool self_overlaps() const;

 private:
  // Each side of a split gets at least 1/8 of the boxes, so real trees are far shallower.
  static constexpr std::size_t kMaxDepth = 256;
  static constexpr std::size_t kLeafSize = 8;

  struct Node {
    std::size_t begin;
    std::size_t end;
    std::size_t right;  // index of the right child, or 0 for a leaf; the left child is node + 1
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
  std::vector<std::int64_t> slot_bounds_;  // bounds in slot order, for locality
  std::vector<Node> nodes_;
  std::vector<std::int64_t> node_bounds_;
  std::vector<std::int64_t> scratch_;
};

}  // namespace shardplan::boxes
