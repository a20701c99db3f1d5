#include "core/boxes/box_tree.h"

#include <algorithm>
#include <numeric>

namespace shardplan::boxes {

BoxTree::BoxTree(const Boxes& boxes) : ndim_(boxes.ndim()), order_(boxes.size()) {
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  if (boxes.empty()) return;
  slot_bounds_.assign(boxes.starts(0), boxes.starts(0) + boxes.size() * 2 * ndim_);
  nodes_.reserve(boxes.size() / 2 + 1);
  node_bounds_.reserve(nodes_.capacity() * 2 * ndim_);
  build(0, boxes.size(), 0);
}

std::size_t BoxTree::build(std::size_t begin, std::size_t end, std::size_t depth) {
  const std::size_t node = nodes_.size();
  nodes_.push_back({begin, end, 0});
  node_bounds_.insert(node_bounds_.end(), slot_bounds(begin), slot_bounds(begin) + 2 * ndim_);
  std::int64_t* bounds = node_bounds_.data() + node * 2 * ndim_;
  for (std::size_t slot = begin + 1; slot < end; ++slot) {
    const std::int64_t* box = slot_bounds(slot);
    for (std::size_t dim = 0; dim < ndim_; ++dim) {
      bounds[dim] = std::min(bounds[dim], box[dim]);
      bounds[ndim_ + dim] = std::max(bounds[ndim_ + dim], box[ndim_ + dim]);
    }
  }
  if (end - begin <= kLeafSize || depth + 2 >= kMaxDepth) return node;
  const std::size_t middle = split(begin, end, node);
  build(begin, middle, depth + 1);
  const std::size_t right = build(middle, end, depth + 1);
  nodes_[node].right = right;
  return node;
}

std::size_t BoxTree::thinnest_dim(std::size_t begin, std::size_t end, std::size_t node) const {
  const std::int64_t* bounds = node_bounds(node);
  std::size_t best = ndim_;
  double best_depth = 0;
  for (std::size_t dim = 0; dim < ndim_; ++dim) {
    const double extent =
        static_cast<double>(bounds[ndim_ + dim]) - static_cast<double>(bounds[dim]);
    if (!(extent > 0)) continue;
    double covered = 0;
    for (std::size_t slot = begin; slot < end; ++slot) {
      const std::int64_t* box = slot_bounds(slot);
      covered += static_cast<double>(box[ndim_ + dim]) - static_cast<double>(box[dim]);
    }
    const double stabbing_depth = covered / extent;
    if (best == ndim_ || stabbing_depth < best_depth) {
      best = dim;
      best_depth = stabbing_depth;
    }
  }
  return best;
}

std::size_t BoxTree::split(std::size_t begin, std::size_t end, std::size_t node) {
  const std::size_t half = begin + (end - begin) / 2;
  const std::size_t dim = thinnest_dim(begin, end, node);
  if (dim == ndim_) return half;

  scratch_.clear();
  for (std::size_t slot = begin; slot < end; ++slot) scratch_.push_back(slot_bounds(slot)[dim]);
  const auto middle = scratch_.begin() + static_cast<std::ptrdiff_t>(half - begin);
  std::nth_element(scratch_.begin(), middle, scratch_.end());
  const std::int64_t median = *middle;

  const std::size_t below = partition(begin, end, dim, median);
  const std::size_t through = median == INT64_MAX ? end : partition(below, end, dim, median + 1);
  // A cut at a start coordinate does not separate boxes with equal starts. If no such cut is
  // balanced, split by count.
  const std::size_t least = (end - begin) / 8;
  const bool below_balanced = below - begin > least && end - below > least;
  const bool through_balanced = through - begin > least && end - through > least;
  if (below_balanced && (!through_balanced || half - below <= through - half)) return below;
  if (through_balanced) return through;
  return half;
}

std::size_t BoxTree::partition(std::size_t begin, std::size_t end, std::size_t dim,
                               std::int64_t limit) {
  const std::size_t width = 2 * ndim_;
  std::size_t left = begin;
  std::size_t right = end;
  while (true) {
    while (left < right && slot_bounds(left)[dim] < limit) ++left;
    while (left < right && slot_bounds(right - 1)[dim] >= limit) --right;
    if (left == right) return left;
    --right;
    std::int64_t* a = slot_bounds_.data() + left * width;
    std::swap_ranges(a, a + width, slot_bounds_.data() + right * width);
    std::swap(order_[left], order_[right]);
    ++left;
  }
}

bool BoxTree::leaf_overlaps(const Node& leaf) const {
  for (std::size_t a = leaf.begin; a < leaf.end; ++a) {
    for (std::size_t b = a + 1; b < leaf.end; ++b) {
      if (bounds_overlap(slot_bounds(a), slot_bounds(b), ndim_)) return true;
    }
  }
  return false;
}

bool BoxTree::leaves_overlap(const Node& a, const Node& b) const {
  for (std::size_t left = a.begin; left < a.end; ++left) {
    for (std::size_t right = b.begin; right < b.end; ++right) {
      if (bounds_overlap(slot_bounds(left), slot_bounds(right), ndim_)) return true;
    }
  }
  return false;
}

bool BoxTree::pair_overlaps(std::size_t a, std::size_t b) const {
  std::vector<std::pair<std::size_t, std::size_t>> pending{{a, b}};
  while (!pending.empty()) {
    const auto [left, right] = pending.back();
    pending.pop_back();
    if (!bounds_overlap(node_bounds(left), node_bounds(right), ndim_)) continue;
    const Node& l = nodes_[left];
    const Node& r = nodes_[right];
    if (l.right == 0 && r.right == 0) {
      if (leaves_overlap(l, r)) return true;
    } else if (r.right == 0 || (l.right != 0 && l.end - l.begin >= r.end - r.begin)) {
      pending.emplace_back(left + 1, right);
      pending.emplace_back(l.right, right);
    } else {
      pending.emplace_back(left, right + 1);
      pending.emplace_back(left, r.right);
    }
  }
  return false;
}

bool BoxTree::self_overlaps() const {
  for (std::size_t node = 0; node < nodes_.size(); ++node) {
    const Node& at = nodes_[node];
    if (at.right == 0 ? leaf_overlaps(at) : pair_overlaps(node + 1, at.right)) return true;
  }
  return false;
}

}  // namespace shardplan::boxes
