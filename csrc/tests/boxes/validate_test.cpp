#include "core/boxes/validate.h"

#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "random_layouts.h"

namespace shardplan::boxes {

void PrintTo(Fault fault, std::ostream* out) {
  static const char* const kNames[] = {"none", "out of bounds", "overlap", "fill", "too large"};
  *out << kNames[static_cast<std::size_t>(fault)];
}

}  // namespace shardplan::boxes

namespace shardplan::testing {
namespace {

boxes::Fault checked(const Numbers& shape, const BoxList& boxes, bool must_fill = true) {
  return boxes::check_boxes(columns(shape.size(), boxes), shape, must_fill);
}

bool overlapping(std::size_t ndim, const BoxList& boxes) {
  return boxes::any_overlap(columns(ndim, boxes));
}

TEST(CheckBoxes, ZeroDimTensorIsAlwaysValid) {
  EXPECT_EQ(checked({}, {}), boxes::Fault::kNone);
  EXPECT_EQ(checked({}, {{}, {}}), boxes::Fault::kNone);
}

TEST(CheckBoxes, NoBoxesFillOnlyAnEmptyTensor) {
  EXPECT_EQ(checked({3}, {}), boxes::Fault::kFill);
  EXPECT_EQ(checked({3}, {}, false), boxes::Fault::kNone);
  EXPECT_EQ(checked({0}, {}), boxes::Fault::kNone);
  EXPECT_EQ(checked({3, 0}, {}), boxes::Fault::kNone);
}

TEST(CheckBoxes, BoundsAreCheckedBeforeFillAndFillBeforeOverlap) {
  EXPECT_EQ(checked({4}, {{{0}, {3}}, {{0}, {3}}, {{4}, {1}}}), boxes::Fault::kOutOfBounds);
  EXPECT_EQ(checked({4}, {{{0}, {3}}, {{0}, {3}}}), boxes::Fault::kFill);
  EXPECT_EQ(checked({4}, {{{0}, {3}}, {{0}, {3}}}, false), boxes::Fault::kOverlap);
  EXPECT_EQ(checked({4}, {{{0}, {2}}, {{0}, {2}}}), boxes::Fault::kOverlap);
  EXPECT_EQ(checked({4}, {{{0}, {2}}, {{2}, {2}}}), boxes::Fault::kNone);
}

TEST(CheckBoxes, HolesAreValidUnlessMustFill) {
  EXPECT_EQ(checked({4, 4}, {{{0, 0}, {1, 4}}, {{2, 0}, {1, 4}}}, false), boxes::Fault::kNone);
  EXPECT_EQ(checked({4, 4}, {{{0, 0}, {1, 4}}, {{2, 0}, {1, 4}}}), boxes::Fault::kFill);
}

TEST(CheckBoxes, EmptyShardsAtTheEndsDoNotOverlap) {
  EXPECT_EQ(checked({4, 4}, {{{0, 0}, {4, 4}}, {{4, 0}, {0, 4}}, {{4, 0}, {0, 4}}}),
            boxes::Fault::kNone);
  EXPECT_EQ(checked({4, 4}, {{{0, 0}, {4, 4}}, {{0, 0}, {0, 4}}}), boxes::Fault::kNone);
  EXPECT_EQ(checked({0, 4}, {{{0, 1}, {0, 2}}, {{0, 0}, {0, 4}}}), boxes::Fault::kNone);
}

TEST(CheckBoxes, EmptyBoxInsideAnotherOverlapsIt) {
  EXPECT_EQ(checked({4}, {{{0}, {4}}, {{2}, {0}}}), boxes::Fault::kOverlap);
  EXPECT_EQ(checked({4}, {{{0}, {2}}, {{2}, {2}}, {{2}, {0}}}), boxes::Fault::kNone);
  EXPECT_EQ(checked({4, 4}, {{{0, 0}, {4, 4}}, {{2, 4}, {0, 0}}}), boxes::Fault::kNone);
  EXPECT_EQ(checked({4, 4}, {{{0, 0}, {4, 4}}, {{2, 3}, {0, 1}}}), boxes::Fault::kOverlap);
}

TEST(CheckBoxes, CrossingEmptyBoxesOverlap) {
  EXPECT_EQ(checked({4, 4}, {{{2, 0}, {0, 4}}, {{0, 2}, {4, 0}}}, false), boxes::Fault::kOverlap);
}

TEST(CheckBoxes, VolumesBeyondInt64) {
  const std::int64_t half = INT64_C(1) << 32;
  EXPECT_EQ(checked({half, half}, {{{0, 0}, {1, 1}}}), boxes::Fault::kTooLarge);
  EXPECT_EQ(checked({half, half}, {{{0, 0}, {1, 1}}}, false), boxes::Fault::kNone);
  EXPECT_EQ(checked({half, half}, {{{0, 0}, {1, 1}}, {{0, 0}, {1, 1}}}, false),
            boxes::Fault::kOverlap);
  EXPECT_EQ(checked({half, half}, {{{0, 0}, {half, half}}}, false), boxes::Fault::kTooLarge);
  const Box most{{0}, {INT64_MAX}};
  EXPECT_EQ(checked({INT64_MAX}, {most}), boxes::Fault::kNone);
  EXPECT_EQ(checked({INT64_MAX}, {most, most}), boxes::Fault::kTooLarge);
}

TEST(CheckBoxes, NegativeNumbersAreOutOfBounds) {
  EXPECT_EQ(checked({4}, {{{-1}, {4}}}), boxes::Fault::kOutOfBounds);
  EXPECT_EQ(checked({4}, {{{4}, {-4}}}), boxes::Fault::kOutOfBounds);
  EXPECT_EQ(checked({4}, {{{INT64_MIN}, {0}}}), boxes::Fault::kOutOfBounds);
  EXPECT_EQ(checked({-4}, {{{0}, {0}}}), boxes::Fault::kOutOfBounds);
}

TEST(CheckBoxes, RandomLayoutsMatchBruteForce) {
  Random random(9);
  std::map<boxes::Fault, int> seen;
  for (int round = 0; round < 8000; ++round) {
    SCOPED_TRACE(round);
    const Layout layout = random_layout(random);
    for (const bool must_fill : {false, true}) {
      const boxes::Fault expected = first_fault(layout.shape, layout.boxes, must_fill);
      ASSERT_EQ(checked(layout.shape, layout.boxes, must_fill), expected);
      ++seen[expected];
    }
  }
  for (const boxes::Fault fault : {boxes::Fault::kNone, boxes::Fault::kOutOfBounds,
                                   boxes::Fault::kOverlap, boxes::Fault::kFill}) {
    EXPECT_GT(seen[fault], 100) << "a fault that the layouts hardly show";
  }
}

// With this many boxes, a check of all pairs would exceed the time limit of the test.
TEST(CheckBoxes, ManyBoxesNestedAroundACornerOrACenter) {
  Random random(10);
  for (Layout layout : {nested_corners(150000), nested_pinwheel(75000)}) {
    shuffle(layout.boxes, random);
    EXPECT_EQ(checked(layout.shape, layout.boxes), boxes::Fault::kNone);
  }
  Layout layout = nested_pinwheel(75000);
  layout.boxes[0] = layout.boxes[1];  // equal volumes
  shuffle(layout.boxes, random);
  EXPECT_EQ(checked(layout.shape, layout.boxes), boxes::Fault::kOverlap);
}

TEST(CheckBoxes, ConcurrentChecks) {
  Random random(11);
  const Layout layout = recursive_split({300, 300}, 500, random);
  const boxes::Boxes boxes = columns(2, layout.boxes);
  std::vector<boxes::Fault> answers(4, boxes::Fault::kTooLarge);
  std::vector<std::thread> threads;
  for (boxes::Fault& answer : answers) {
    threads.emplace_back([&] { answer = boxes::check_boxes(boxes, layout.shape, true); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answers, std::vector<boxes::Fault>(4, boxes::Fault::kNone));
}

TEST(AnyOverlap, FewerThanTwoBoxesNeverOverlap) {
  EXPECT_FALSE(overlapping(1, {}));
  EXPECT_FALSE(overlapping(1, {{{0}, {4}}}));
  EXPECT_FALSE(overlapping(0, {{}}));
  EXPECT_TRUE(overlapping(0, {{}, {}}));
}

TEST(AnyOverlap, ShardsOfAnyOneDimInAnyOrder) {
  for (std::size_t dim = 0; dim < 3; ++dim) {
    BoxList boxes;
    for (std::int64_t at = 0; at < 100; ++at) {
      Box box{{0, 0, 0}, {7, 7, 7}};
      box.offsets[dim] = 3 * ((at * 37) % 100);
      box.sizes[dim] = 3;
      boxes.push_back(box);
    }
    EXPECT_FALSE(overlapping(3, boxes));
    boxes[50].sizes[dim] = 4;
    EXPECT_TRUE(overlapping(3, boxes));
  }
}

TEST(AnyOverlap, DuplicatesOverlapUnlessTheyAreEmpty) {
  EXPECT_TRUE(overlapping(2, BoxList(100, {{3, 3}, {1, 1}})));
  EXPECT_FALSE(overlapping(2, BoxList(100, {{3, 3}, {0, 1}})));
}

TEST(AnyOverlap, EmptyBoxBeforeOrAfterTheBoxAroundIt) {
  EXPECT_TRUE(overlapping(1, {{{5}, {0}}, {{0}, {10}}}));
  EXPECT_TRUE(overlapping(1, {{{0}, {10}}, {{5}, {0}}}));
  EXPECT_FALSE(overlapping(1, {{{10}, {0}}, {{0}, {10}}, {{0}, {0}}}));
}

TEST(AnyOverlap, NegativeSizeBetweenTwoBoxesHidesNoOverlap) {
  EXPECT_TRUE(overlapping(1, {{{0}, {10}}, {{12}, {-7}}, {{6}, {2}}}));
  EXPECT_FALSE(overlapping(1, {{{0}, {5}}, {{12}, {-7}}, {{6}, {2}}}));
}

TEST(AnyOverlap, LimitsOfInt64) {
  const Box low{{INT64_MIN}, {INT64_MAX}};
  const Box high{{-1}, {INT64_MAX}};
  EXPECT_FALSE(overlapping(1, {low, high}));
  EXPECT_TRUE(overlapping(1, {low, high, {{-2}, {2}}}));
  EXPECT_FALSE(overlapping(1, {{{INT64_MAX}, {0}}, {{INT64_MAX}, {0}}}));
}

TEST(AnyOverlap, RandomBoxesAsBruteForce) {
  Random random(12);
  int apart = 0;
  for (int round = 0; round < 8000; ++round) {
    SCOPED_TRACE(round);
    const std::size_t ndim = random.index(5);
    const BoxList boxes = random_boxes(ndim, random.index(8), random);
    ASSERT_EQ(overlapping(ndim, boxes), any_pair_overlaps(boxes));
    apart += !any_pair_overlaps(boxes);
  }
  EXPECT_GT(apart, 1000);
}

}  // namespace
}  // namespace shardplan::testing
