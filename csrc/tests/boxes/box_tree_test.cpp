#include "core/boxes/box_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "random_layouts.h"

namespace shardplan::testing {
namespace {

std::vector<std::size_t> found(const boxes::BoxTree& tree, const Box& wanted) {
  std::vector<std::size_t> answer;
  const boxes::Boxes bounds = columns(wanted.offsets.size(), {wanted});
  tree.query(bounds.starts(0), [&](std::size_t box) { answer.push_back(box); });
  std::sort(answer.begin(), answer.end());
  return answer;
}

std::vector<std::size_t> overlapping(const BoxList& boxes, const Box& wanted) {
  std::vector<std::size_t> answer;
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    if (overlap(boxes[box], wanted)) answer.push_back(box);
  }
  return answer;
}

/// Checks that a query with each box finds every overlapping box once.
void expect_as_brute_force(std::size_t ndim, const BoxList& boxes) {
  const boxes::BoxTree tree(columns(ndim, boxes));
  for (const Box& wanted : boxes) ASSERT_EQ(found(tree, wanted), overlapping(boxes, wanted));
  ASSERT_EQ(tree.self_overlaps(), any_pair_overlaps(boxes));
}

TEST(BoxTree, EmptyFindsNothing) {
  const boxes::BoxTree tree{boxes::Boxes(2)};
  EXPECT_TRUE(found(tree, {{0, 0}, {INT64_MAX, INT64_MAX}}).empty());
  EXPECT_FALSE(tree.self_overlaps());
}

TEST(BoxTree, OneBoxDoesNotOverlapItself) {
  EXPECT_FALSE(boxes::BoxTree(columns(1, {{{0}, {5}}})).self_overlaps());
  EXPECT_FALSE(boxes::BoxTree(columns(0, {{}})).self_overlaps());
}

TEST(BoxTree, ZeroDimBoxesAllOverlap) {
  const boxes::BoxTree tree(columns(0, BoxList(100)));
  EXPECT_TRUE(tree.self_overlaps());
  EXPECT_EQ(found(tree, {}).size(), 100u);
}

TEST(BoxTree, CountsNearTheLeafSize) {
  for (std::int64_t count = 0; count <= 70; ++count) {
    BoxList boxes;
    for (std::int64_t at = 0; at < count; ++at) boxes.push_back({{3 * at, 0}, {3, 2}});
    expect_as_brute_force(2, boxes);
  }
}

TEST(BoxTree, IdenticalBoxes) {
  expect_as_brute_force(2, BoxList(300, {{1, 2}, {3, 4}}));
  expect_as_brute_force(2, BoxList(300, {{1, 2}, {0, 4}}));
  expect_as_brute_force(2, BoxList(300, {{1, 2}, {-3, 4}}));
}

TEST(BoxTree, TiesInEveryDim) {
  BoxList boxes;
  for (std::int64_t at = 0; at < 200; ++at) boxes.push_back({{at % 2, at % 3}, {at % 4, at % 5}});
  expect_as_brute_force(2, boxes);
}

TEST(BoxTree, CoordinatesAtTheLimitsOfInt64) {
  BoxList boxes;
  for (std::int64_t at = 0; at < 40; ++at) {
    boxes.push_back({{INT64_MIN + at, INT64_MAX}, {1, 0}});
    boxes.push_back({{INT64_MAX - 1 - at, INT64_MAX - 1}, {1, 1}});
    boxes.push_back({{INT64_MIN, INT64_MIN}, {INT64_MAX, at}});
    boxes.push_back({{INT64_MAX, INT64_MAX}, {INT64_MIN, -at}});
  }
  expect_as_brute_force(2, boxes);
}

TEST(BoxTree, MedianAtTheLargestStart) {
  BoxList boxes(20, {{INT64_MAX}, {0}});
  boxes.push_back({{0}, {1}});
  boxes.push_back({{0}, {INT64_MAX}});
  expect_as_brute_force(1, boxes);
}

TEST(BoxTree, DoublingSizes) {
  BoxList boxes;
  for (int exponent = 0; exponent < 62; ++exponent) {
    boxes.push_back({{INT64_C(1) << exponent, 0}, {INT64_C(1) << exponent, 1}});
    boxes.push_back({{0, INT64_C(1) << exponent}, {1, INT64_C(1) << exponent}});
  }
  expect_as_brute_force(2, boxes);
}

TEST(BoxTree, NestedLayoutsDoNotOverlap) {
  expect_as_brute_force(2, nested_corners(150).boxes);
  expect_as_brute_force(2, nested_pinwheel(75).boxes);
}

TEST(BoxTree, BoxThatContainsAllOthersIsFound) {
  Random random(2);
  Layout layout = grid({400, 400}, {20, 20}, random);
  layout.boxes.push_back({{1, 1}, {398, 398}});
  shuffle(layout.boxes, random);
  expect_as_brute_force(2, layout.boxes);
}

TEST(BoxTree, RandomLayouts) {
  Random random(3);
  for (int round = 0; round < 1500; ++round) {
    SCOPED_TRACE(round);
    const Layout layout = random_layout(random);
    expect_as_brute_force(layout.shape.size(), layout.boxes);
  }
}

TEST(BoxTree, RandomBoxesOfAnySize) {
  Random random(4);
  for (int round = 0; round < 1500; ++round) {
    SCOPED_TRACE(round);
    const std::size_t ndim = random.index(5);
    expect_as_brute_force(ndim, random_boxes(ndim, random.index(80), random));
  }
}

TEST(BoxTree, ConcurrentQueries) {
  Random random(5);
  const Layout layout = recursive_split({500, 500, 500}, 400, random);
  const boxes::Boxes boxes = columns(3, layout.boxes);
  const boxes::BoxTree tree(boxes);
  std::atomic<std::size_t> hits{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (std::size_t box = 0; box < boxes.size(); ++box) {
        tree.query(boxes.starts(box), [&](std::size_t other) { hits += other == box; });
      }
      hits += tree.self_overlaps();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(hits, 4 * boxes.size());
}

}  // namespace
}  // namespace shardplan::testing
