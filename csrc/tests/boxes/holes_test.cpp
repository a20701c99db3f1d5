#include "core/boxes/holes.h"

#include <gtest/gtest.h>

#include <algorithm>

#include <limits>

#include "random_layouts.h"

namespace shardplan::testing {
namespace {

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

Numbers bounds_of(const Numbers& shape) {
  Numbers bounds(shape.size());
  bounds.insert(bounds.end(), shape.begin(), shape.end());
  return bounds;
}

BoxList listed(const boxes::Boxes& boxes) {
  BoxList list;
  for (std::size_t at = 0; at < boxes.size(); ++at) {
    Box box{{boxes.starts(at), boxes.ends(at)}, {}};
    for (std::size_t dim = 0; dim < boxes.ndim(); ++dim) {
      box.sizes.push_back(boxes.end(at, dim) - boxes.start(at, dim));
    }
    list.push_back(box);
  }
  return list;
}

BoxList holes_of(const Numbers& shape, const BoxList& boxes) {
  const boxes::Holes holes =
      boxes::find_holes(columns(shape.size(), boxes), bounds_of(shape).data(), kAll);
  EXPECT_TRUE(holes.complete);
  return listed(holes.boxes);
}

/// Clips boxes to the tensor and drops those outside it.
BoxList inside(const Numbers& shape, BoxList boxes) {
  BoxList kept;
  for (Box& box : boxes) {
    bool overlaps = true;
    for (std::size_t dim = 0; dim < shape.size(); ++dim) {
      const std::int64_t end = std::min(box.offsets[dim] + box.sizes[dim], shape[dim]);
      box.offsets[dim] = std::max<std::int64_t>(box.offsets[dim], 0);
      box.sizes[dim] = end - box.offsets[dim];
      overlaps = overlaps && box.sizes[dim] > 0;
    }
    if (overlaps) kept.push_back(box);
  }
  return kept;
}

TEST(Holes, TilingHasNone) {
  Random random(1);
  for (int round = 0; round < 500; ++round) {
    const Layout layout = random_tiling(random);
    EXPECT_EQ(holes_of(layout.shape, layout.boxes), BoxList());
  }
}

TEST(Holes, AreTheRemovedBoxes) {
  EXPECT_EQ(holes_of({4}, {}), BoxList({{{0}, {4}}}));
  EXPECT_EQ(holes_of({8, 4}, {{{0, 0}, {2, 4}}, {{4, 0}, {2, 4}}}),
            BoxList({{{2, 0}, {2, 4}}, {{6, 0}, {2, 4}}}));
  EXPECT_EQ(holes_of({4, 4}, {{{0, 0}, {2, 2}}, {{2, 2}, {2, 2}}}),
            BoxList({{{0, 2}, {2, 2}}, {{2, 0}, {2, 2}}}));
  EXPECT_EQ(holes_of({0, 4}, {}), BoxList());
}

TEST(Holes, MatchUncoveredElementsOfRandomBoxes) {
  Random random(2);
  for (int round = 0; round < 3'000; ++round) {
    const Numbers shape = random_shape(random);
    const std::size_t ndim = shape.size();
    const BoxList boxes = random_boxes(ndim, random.index(40), random);
    const BoxList holes = holes_of(shape, boxes);
    const std::vector<int> covered = painted(shape, inside(shape, boxes));
    const std::vector<int> in_hole = painted(shape, holes);
    for (std::size_t element = 0; element < covered.size(); ++element) {
      ASSERT_EQ(in_hole[element], covered[element] == 0 ? 1 : 0) << "round " << round;
    }
  }
}

TEST(Holes, OfARegionAreWithinIt) {
  const boxes::Boxes boxes = columns(2, {{{0, 0}, {4, 8}}, {{6, 0}, {2, 8}}});
  const Numbers region = {2, 2, 7, 5};
  const boxes::Holes holes = boxes::find_holes(boxes, region.data(), kAll);
  EXPECT_EQ(listed(holes.boxes), BoxList({{{4, 2}, {2, 3}}}));
}

TEST(Holes, StopsAtTheLimit) {
  BoxList boxes;
  for (std::int64_t at = 0; at < 100; at += 2) boxes.push_back({{at}, {1}});
  const Numbers bounds = {0, 100};
  const boxes::Holes some = boxes::find_holes(columns(1, boxes), bounds.data(), 10);
  EXPECT_FALSE(some.complete);
  EXPECT_EQ(some.boxes.size(), 10);
  EXPECT_TRUE(boxes::find_holes(columns(1, boxes), bounds.data(), 50).complete);
}

TEST(Holes, LargeLayoutsAreFast) {
  Random random(3);
  const std::vector<Layout> layouts = {
      runs({1 << 20, 64}, 0, 50'000, random),
      grid({1 << 14, 1 << 14}, {200, 200}, random),
      recursive_split({1 << 14, 1 << 14}, 50'000, random),
  };
  for (Layout layout : layouts) {
    shuffle(layout.boxes, random);
    const Box left_out = layout.boxes.back();
    layout.boxes.pop_back();
    const BoxList expected =
        left_out.sizes[0] * left_out.sizes[1] == 0 ? BoxList() : BoxList({left_out});
    EXPECT_EQ(holes_of(layout.shape, layout.boxes), expected);
  }
}

TEST(Holes, BoundsAtTheLimitsOfInt64) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const boxes::Boxes boxes = columns(1, {{{0}, {kMost - 1}}});
  const Numbers bounds = {0, kMost};
  const boxes::Holes holes = boxes::find_holes(boxes, bounds.data(), kAll);
  EXPECT_EQ(listed(holes.boxes), BoxList({{{kMost - 1}, {1}}}));
}

}  // namespace
}  // namespace shardplan::testing
