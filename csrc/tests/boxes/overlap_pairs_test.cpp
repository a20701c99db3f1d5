#include "core/boxes/overlap_pairs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "random_layouts.h"

namespace shardplan::testing {
namespace {

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

/// Upstream's sweep, with its list of active boxes.
std::vector<boxes::BoxPair> swept(const Numbers& shape, const BoxList& boxes) {
  const auto sweep = static_cast<std::size_t>(std::ranges::max_element(shape) - shape.begin());
  const auto key = [&](std::size_t box) {
    Numbers numbers = {boxes[box].offsets[sweep]};
    numbers.insert(numbers.end(), boxes[box].offsets.begin(), boxes[box].offsets.end());
    return numbers;
  };
  std::vector<std::size_t> order(boxes.size());
  for (std::size_t at = 0; at < order.size(); ++at) order[at] = at;
  std::ranges::stable_sort(order, [&](auto a, auto b) { return key(a) < key(b); });
  std::vector<std::pair<std::int64_t, std::size_t>> active;
  std::vector<boxes::BoxPair> pairs;
  for (const std::size_t box : order) {
    const std::int64_t start = boxes[box].offsets[sweep];
    std::erase_if(active, [&](const auto& other) { return other.first <= start; });
    for (const auto& [end, other] : active) {
      if (overlap(boxes[box], boxes[other])) pairs.emplace_back(box, other);
    }
    active.emplace_back(start + boxes[box].sizes[sweep], box);
    std::ranges::sort(active);
  }
  return pairs;
}

TEST(OverlappingPairs, MatchUpstreamsSweep) {
  Random random(4);
  for (int round = 0; round < 3'000; ++round) {
    const Numbers shape = random_shape(random);
    const std::size_t ndim = shape.size();
    const BoxList boxes = random_boxes(ndim, random.index(60), random);
    const std::vector<boxes::BoxPair> expected = swept(shape, boxes);
    const boxes::Boxes as_columns = columns(ndim, boxes);
    ASSERT_EQ(boxes::overlapping_pairs(as_columns, shape, kAll), expected) << "round " << round;
    const std::size_t some = random.index(expected.size() + 1);
    ASSERT_EQ(boxes::overlapping_pairs(as_columns, shape, some),
              std::vector<boxes::BoxPair>(expected.begin(),
                                          expected.begin() + static_cast<std::ptrdiff_t>(some)));
  }
}

TEST(OverlappingPairs, FirstOfManyPairsAreFast) {
  const BoxList boxes(200'000, {{0, 0}, {4, 4}});
  const std::vector<boxes::BoxPair> pairs =
      boxes::overlapping_pairs(columns(2, boxes), Numbers{4, 4}, 100);
  EXPECT_EQ(pairs.size(), 100);
  EXPECT_EQ(pairs.front(), boxes::BoxPair(1, 0));
}

}  // namespace
}  // namespace shardplan::testing
