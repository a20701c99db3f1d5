#include "core/boxes/overlap_pairs.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "core/boxes/box_tree.h"

namespace shardplan::boxes {

std::vector<BoxPair> overlapping_pairs(const Boxes& boxes, std::span<const std::int64_t> shape,
                                       std::size_t most) {
  const auto sweep = static_cast<std::size_t>(
      std::distance(shape.begin(), std::max_element(shape.begin(), shape.end())));
  std::vector<std::size_t> order(boxes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    if (boxes.start(a, sweep) != boxes.start(b, sweep)) {
      return boxes.start(a, sweep) < boxes.start(b, sweep);
    }
    return std::lexicographical_compare(boxes.starts(a), boxes.ends(a), boxes.starts(b),
                                        boxes.ends(b));
  });
  std::vector<std::size_t> position(boxes.size());  // of each box in the sweep
  for (std::size_t at = 0; at < order.size(); ++at) position[order[at]] = at;

  const BoxTree tree(boxes);
  std::vector<BoxPair> pairs;
  std::vector<std::size_t> overlapping;
  for (const std::size_t box : order) {
    if (pairs.size() >= most) break;
    overlapping.clear();
    tree.query(boxes.starts(box), [&](std::size_t other) {
      if (position[other] < position[box]) overlapping.push_back(other);
    });
    std::ranges::sort(overlapping, [&](std::size_t a, std::size_t b) {
      return std::pair(boxes.end(a, sweep), a) < std::pair(boxes.end(b, sweep), b);
    });
    for (const std::size_t other : overlapping) {
      if (pairs.size() < most) pairs.emplace_back(box, other);
    }
  }
  return pairs;
}

}  // namespace shardplan::boxes
