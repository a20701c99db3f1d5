#include "core/boxes/tiling.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "random_layouts.h"

namespace shardplan::testing {
namespace {

bool tiles(const Numbers& shape, const BoxList& boxes) {
  boxes::Tiling tiling(shape);
  const boxes::Boxes added = columns(shape.size(), boxes);
  for (std::size_t box = 0; box < added.size(); ++box) {
    tiling.add(added.starts(box), added.ends(box));
  }
  return tiling.complete();
}

bool painted_once(const Numbers& shape, const BoxList& boxes) {
  const std::vector<int> counts = painted(shape, boxes);
  return std::all_of(counts.begin(), counts.end(), [](int count) { return count == 1; });
}

TEST(Tiling, NoBoxesTileOnlyAnEmptyTensor) {
  EXPECT_FALSE(tiles({3}, {}));
  EXPECT_FALSE(tiles({1, 1}, {}));
  EXPECT_TRUE(tiles({0}, {}));
  EXPECT_TRUE(tiles({4, 0}, {}));
}

TEST(Tiling, OneBoxTilesTheTensor) {
  EXPECT_TRUE(tiles({3, 4}, {{{0, 0}, {3, 4}}}));
  EXPECT_FALSE(tiles({3, 4}, {{{0, 0}, {3, 4}}, {{0, 0}, {3, 4}}}));
}

TEST(Tiling, EmptyBoxesAreIgnored) {
  EXPECT_TRUE(tiles({4}, {{{0}, {4}}, {{2}, {0}}, {{4}, {0}}}));
  EXPECT_FALSE(tiles({4}, {{{0}, {3}}, {{3}, {0}}}));
}

TEST(Tiling, OverlapWithAHoleOfEqualVolume) {
  EXPECT_FALSE(tiles({6}, {{{0}, {2}}, {{2}, {2}}, {{2}, {2}}}));
  EXPECT_FALSE(tiles({6}, {{{0}, {2}}, {{1}, {2}}, {{4}, {2}}}));
  EXPECT_FALSE(tiles({2, 2}, {{{0, 0}, {1, 2}}, {{0, 0}, {2, 1}}}));
  EXPECT_FALSE(tiles({4, 4}, {{{0, 0}, {2, 4}}, {{1, 0}, {2, 4}}}));
}

TEST(Tiling, CoordinatesOfDifferentDimsDiffer) {
  // Projections on each dim are those of a tiling; only the combination of dims differs.
  const Box first{{0, 0}, {1, 1}};
  const Box last{{1, 1}, {1, 1}};
  EXPECT_FALSE(tiles({2, 2}, {first, first, last, last}));
  EXPECT_FALSE(tiles({2, 4}, {{{0, 0}, {2, 2}}, {{0, 1}, {2, 2}}}));
}

TEST(Tiling, HugeCoordinates) {
  const std::int64_t half = INT64_C(1) << 62;
  EXPECT_TRUE(tiles({INT64_MAX}, {{{half}, {INT64_MAX - half}}, {{0}, {half}}}));
  EXPECT_FALSE(tiles({INT64_MAX}, {{{half}, {INT64_MAX - half}}, {{0}, {half - 1}}}));
  // Coordinates that are equal modulo 2^61 - 1 or modulo 2^61 are distinct.
  const std::int64_t prime = (INT64_C(1) << 61) - 1;
  EXPECT_FALSE(tiles({2 * prime}, {{{0}, {1}}, {{prime + 1}, {prime - 1}}}));
  EXPECT_FALSE(tiles({2 * prime + 2}, {{{0}, {1}}, {{prime + 2}, {prime}}}));
}

TEST(Tiling, RandomTilingsAreAccepted) {
  Random random(6);
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE(round);
    const Layout layout = random_tiling(random);
    ASSERT_TRUE(painted_once(layout.shape, layout.boxes));
    ASSERT_TRUE(tiles(layout.shape, layout.boxes));
  }
}

TEST(Tiling, RemovedOrMovedBoxIsDetected) {
  Random random(7);
  for (int round = 0; round < 300; ++round) {
    const Layout layout = recursive_split({30, 30, 30}, 60, random);
    ASSERT_TRUE(tiles(layout.shape, layout.boxes));
    for (std::size_t box = 0; box < layout.boxes.size(); ++box) {
      BoxList other = layout.boxes;
      other[box].offsets[random.index(3)] += random.one_in(2) ? 1 : -1;
      ASSERT_FALSE(tiles(layout.shape, other));
      other.erase(other.begin() + static_cast<std::ptrdiff_t>(box));
      ASSERT_FALSE(tiles(layout.shape, other));
    }
  }
}

TEST(Tiling, MatchesBruteForce) {
  Random random(8);
  int tiled = 0;
  for (int round = 0; round < 5000; ++round) {
    SCOPED_TRACE(round);
    const Layout layout = random_layout(random);
    if (first_fault(layout.shape, layout.boxes, false) == boxes::Fault::kOutOfBounds) continue;
    const bool expected = painted_once(layout.shape, layout.boxes);
    ASSERT_EQ(tiles(layout.shape, layout.boxes), expected);
    tiled += expected;
  }
  EXPECT_GT(tiled, 500);
}

}  // namespace
}  // namespace shardplan::testing
