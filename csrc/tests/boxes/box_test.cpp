#include "core/boxes/box.h"

#include <gtest/gtest.h>

#include "random_layouts.h"

namespace shardplan::testing {
namespace {

bool one_overlaps(const Box& a, const Box& b) {
  const boxes::Boxes boxes = columns(a.offsets.size(), {a, b});
  const bool answer = boxes::bounds_overlap(boxes.starts(0), boxes.starts(1), boxes.ndim());
  EXPECT_EQ(answer, boxes::bounds_overlap(boxes.starts(1), boxes.starts(0), boxes.ndim()));
  return answer;
}

bool inside(const Box& box, const Numbers& shape) {
  return boxes::in_bounds(columns(shape.size(), {box}), 0, shape);
}

TEST(Boxes, KeepsStartsAndEndsInOrder) {
  const boxes::Boxes boxes = columns(2, {{{1, 2}, {3, 4}}, {{-5, 0}, {0, -7}}});
  ASSERT_EQ(boxes.size(), 2u);
  EXPECT_EQ(boxes.ndim(), 2u);
  EXPECT_EQ(boxes.start(0, 1), 2);
  EXPECT_EQ(boxes.end(0, 0), 4);
  EXPECT_EQ(boxes.end(0, 1), 6);
  EXPECT_EQ(boxes.start(1, 0), -5);
  EXPECT_EQ(boxes.end(1, 0), -5);
  EXPECT_EQ(boxes.end(1, 1), -7);
}

TEST(Boxes, ZeroDimsStillCountsBoxes) {
  const boxes::Boxes boxes = columns(0, {{}, {}, {}});
  EXPECT_EQ(boxes.size(), 3u);
  EXPECT_FALSE(boxes.empty());
}

TEST(Boxes, ClearKeepsTheNumberOfDims) {
  boxes::Boxes boxes = columns(1, {{{1}, {2}}});
  boxes.clear();
  EXPECT_TRUE(boxes.empty());
  EXPECT_EQ(boxes.ndim(), 1u);
  const std::int64_t offset = 7;
  const std::int64_t size = 1;
  ASSERT_TRUE(boxes.push(&offset, &size));
  EXPECT_EQ(boxes.start(0, 0), 7);
}

TEST(Boxes, AcceptsEndsAtTheLimitsOfInt64) {
  const boxes::Boxes boxes = columns(1, {{{INT64_MAX}, {0}},
                                         {{INT64_MIN}, {INT64_MAX}},
                                         {{0}, {INT64_MIN}},
                                         {{INT64_MAX}, {INT64_MIN}},
                                         {{INT64_MIN}, {0}}});
  EXPECT_EQ(boxes.end(0, 0), INT64_MAX);
  EXPECT_EQ(boxes.end(1, 0), -1);
  EXPECT_EQ(boxes.end(2, 0), INT64_MIN);
  EXPECT_EQ(boxes.end(3, 0), -1);
  EXPECT_EQ(boxes.end(4, 0), INT64_MIN);
}

TEST(Boxes, RejectsEndsBeyondInt64AndIsUnchanged) {
  boxes::Boxes boxes = columns(2, {{{1, 2}, {3, 4}}});
  const std::vector<Box> refused{{{0, INT64_MAX}, {0, 1}},
                                 {{1, 0}, {INT64_MAX, 0}},
                                 {{0, INT64_MIN}, {0, -1}},
                                 {{-1, 0}, {INT64_MIN, 0}}};
  for (const Box& box : refused) {
    EXPECT_FALSE(boxes.push(box.offsets.data(), box.sizes.data()));
  }
  ASSERT_EQ(boxes.size(), 1u);
  const Box next{{5, 6}, {7, 8}};
  ASSERT_TRUE(boxes.push(next.offsets.data(), next.sizes.data()));
  EXPECT_EQ(boxes.start(1, 0), 5);
  EXPECT_EQ(boxes.end(1, 1), 14);
  EXPECT_EQ(boxes.end(0, 1), 6);
}

TEST(BoundsOverlap, SharedBordersDoNotOverlap) {
  EXPECT_FALSE(one_overlaps({{0}, {4}}, {{4}, {4}}));
  EXPECT_TRUE(one_overlaps({{0}, {5}}, {{4}, {4}}));
  EXPECT_FALSE(one_overlaps({{0, 0}, {4, 4}}, {{4, 4}, {1, 1}}));
  EXPECT_FALSE(one_overlaps({{0, 0}, {4, 4}}, {{2, 4}, {1, 1}}));
  EXPECT_TRUE(one_overlaps({{0, 0}, {4, 4}}, {{3, 3}, {9, 9}}));
}

TEST(BoundsOverlap, ZeroSizeBoxStrictlyInsideOverlaps) {
  EXPECT_TRUE(one_overlaps({{2}, {0}}, {{0}, {4}}));
  EXPECT_FALSE(one_overlaps({{0}, {0}}, {{0}, {4}}));
  EXPECT_FALSE(one_overlaps({{4}, {0}}, {{0}, {4}}));
  EXPECT_FALSE(one_overlaps({{2}, {0}}, {{2}, {0}}));
  // The boxes are empty in different dims and cross.
  EXPECT_TRUE(one_overlaps({{2, 0}, {0, 4}}, {{0, 2}, {4, 0}}));
}

TEST(BoundsOverlap, NegativeSizesFollowTheSameRule) {
  EXPECT_TRUE(one_overlaps({{5}, {-2}}, {{0}, {9}}));
  EXPECT_FALSE(one_overlaps({{5}, {-2}}, {{3}, {9}}));
  EXPECT_FALSE(one_overlaps({{5}, {-2}}, {{5}, {-2}}));
}

TEST(BoundsOverlap, ZeroDimBoxesAlwaysOverlap) {
  EXPECT_TRUE(one_overlaps({}, {}));
}

TEST(BoundsOverlap, NonEmptyBoxesOverlapIfTheyShareAnElement) {
  Random random(1);
  for (int round = 0; round < 500; ++round) {
    const Numbers shape{6, 6, 6};
    BoxList pair(2);
    for (Box& box : pair) {
      for (int dim = 0; dim < 3; ++dim) {
        box.offsets.push_back(random.between(0, 5));
        box.sizes.push_back(random.between(1, 6 - box.offsets.back()));
      }
    }
    bool shared = false;
    for (const int count : painted(shape, pair)) shared = shared || count == 2;
    EXPECT_EQ(one_overlaps(pair[0], pair[1]), shared);
  }
}

TEST(InBounds, BordersAreInside) {
  EXPECT_TRUE(inside({{0, 0}, {4, 5}}, {4, 5}));
  EXPECT_TRUE(inside({{4, 5}, {0, 0}}, {4, 5}));
  EXPECT_FALSE(inside({{0, 1}, {4, 5}}, {4, 5}));
  EXPECT_FALSE(inside({{-1, 0}, {1, 1}}, {4, 5}));
  EXPECT_FALSE(inside({{2, 0}, {-1, 1}}, {4, 5}));
  EXPECT_FALSE(inside({{5, 0}, {0, 1}}, {4, 5}));
  EXPECT_FALSE(inside({{0, 0}, {0, 0}}, {-1, 5}));
}

TEST(InBounds, ZeroDimsAreAlwaysInBounds) {
  EXPECT_TRUE(inside({}, {}));
}

TEST(InBounds, LimitsOfInt64) {
  EXPECT_TRUE(inside({{0}, {INT64_MAX}}, {INT64_MAX}));
  EXPECT_FALSE(inside({{0}, {INT64_MIN}}, {INT64_MAX}));
  EXPECT_FALSE(inside({{INT64_MIN}, {INT64_MAX}}, {INT64_MAX}));
}

TEST(Volume, Shapes) {
  std::int64_t elements = -1;
  ASSERT_TRUE(boxes::volume(Numbers{}, elements));
  EXPECT_EQ(elements, 1);
  ASSERT_TRUE(boxes::volume(Numbers{3, 0, 5}, elements));
  EXPECT_EQ(elements, 0);
  ASSERT_TRUE(boxes::volume(Numbers{INT64_MAX, 1}, elements));
  EXPECT_EQ(elements, INT64_MAX);
  EXPECT_FALSE(boxes::volume(Numbers{INT64_C(1) << 32, INT64_C(1) << 31}, elements));
}

TEST(Volume, OfBoxes) {
  const std::int64_t half = INT64_C(1) << 32;
  const boxes::Boxes boxes =
      columns(2, {{{7, -9}, {3, 4}}, {{7, 9}, {-3, 4}}, {{0, 0}, {half, half}}});
  std::int64_t elements = 0;
  ASSERT_TRUE(boxes::volume(boxes, 0, elements));
  EXPECT_EQ(elements, 12);
  ASSERT_TRUE(boxes::volume(boxes, 1, elements));
  EXPECT_EQ(elements, -12);
  EXPECT_FALSE(boxes::volume(boxes, 2, elements));
}

TEST(Volume, ZeroDimBoxHasVolumeOne) {
  std::int64_t elements = 0;
  ASSERT_TRUE(boxes::volume(columns(0, {{}}), 0, elements));
  EXPECT_EQ(elements, 1);
}

TEST(Boxes, OutOfBoundsListsBoxesInOrder) {
  const boxes::Boxes boxes = columns(2, {{{0, 0}, {2, 2}}, {{1, 0}, {2, 2}}, {{-1, 0}, {1, 1}}});
  EXPECT_EQ(boxes::out_of_bounds(boxes, Numbers{2, 2}), (std::vector<std::size_t>{1, 2}));
  EXPECT_TRUE(boxes::out_of_bounds(boxes::Boxes(2), Numbers{2, 2}).empty());
}

TEST(Boxes, TotalVolumeIsASumThatFitsInt64) {
  std::int64_t sum = -1;
  EXPECT_TRUE(boxes::total_volume(boxes::Boxes(2), sum));
  EXPECT_EQ(sum, 0);
  EXPECT_TRUE(boxes::total_volume(columns(2, {{{0, 0}, {2, 3}}, {{5, 5}, {4, 1}}}), sum));
  EXPECT_EQ(sum, 10);
  EXPECT_TRUE(boxes::total_volume(columns(0, {{}, {}}), sum));
  EXPECT_EQ(sum, 2);
  EXPECT_FALSE(boxes::total_volume(columns(1, {{{0}, {INT64_MAX}}, {{0}, {1}}}), sum));
  EXPECT_FALSE(boxes::total_volume(columns(2, {{{0, 0}, {INT64_MAX, 2}}}), sum));
}

TEST(InBounds, OffsetsAndSizes) {
  const auto inside = [](std::vector<std::int64_t> offsets, std::vector<std::int64_t> sizes,
                         std::vector<std::int64_t> shape) {
    return boxes::in_bounds(std::span<const std::int64_t>(offsets), sizes, shape);
  };
  EXPECT_TRUE(inside({}, {}, {}));
  EXPECT_TRUE(inside({2, 0}, {2, 3}, {4, 3}));
  EXPECT_TRUE(inside({4}, {0}, {4}));
  EXPECT_FALSE(inside({3, 0}, {2, 3}, {4, 3}));
  EXPECT_FALSE(inside({-1}, {1}, {4}));
  EXPECT_FALSE(inside({0}, {-1}, {4}));
  EXPECT_FALSE(inside({INT64_MAX}, {1}, {INT64_MAX}));
  EXPECT_FALSE(inside({0}, {0}, {-1}));
  EXPECT_FALSE(inside({0}, {1, 1}, {4, 4}));
  EXPECT_FALSE(inside({0, 0}, {1}, {4, 4}));
}

}  // namespace
}  // namespace shardplan::testing
