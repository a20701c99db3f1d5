#include "core/boxes/arrangement.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "random_layouts.h"

namespace shardplan::testing {
namespace {

using Kind = boxes::Arrangement::Kind;
using Parts = std::vector<std::size_t>;

boxes::Arrangement of(std::size_t ndim, const BoxList& boxes) {
  return boxes::recognise(columns(ndim, boxes));
}

TEST(Arrangement, NoElements) {
  EXPECT_EQ(of(1, {}).kind, Kind::kNone);
  EXPECT_EQ(of(2, {{{0, 0}, {0, 4}}}).kind, Kind::kNone);
}

TEST(Arrangement, OneBoxIsWhole) {
  const boxes::Arrangement whole = of(2, {{{0, 0}, {3, 4}}});
  EXPECT_EQ(whole.kind, Kind::kWhole);
  EXPECT_EQ(whole.parts, Parts({1, 1}));
  EXPECT_EQ(of(0, {{{}, {}}}).kind, Kind::kWhole);
}

TEST(Arrangement, ShardsOfOneDimShorterAndEmptyAtTheEnd) {
  const boxes::Arrangement shards =
      of(2, {{{3, 0}, {3, 4}}, {{0, 0}, {3, 4}}, {{6, 0}, {1, 4}}, {{7, 0}, {0, 4}}});
  EXPECT_EQ(shards.kind, Kind::kOneDim);
  EXPECT_EQ(shards.parts, Parts({3, 1}));
  EXPECT_TRUE(shards.even);
  EXPECT_FALSE(of(1, {{{0}, {1}}, {{1}, {3}}}).even);
  EXPECT_FALSE(of(1, {{{0}, {3}}, {{3}, {1}}, {{4}, {3}}}).even);
}

TEST(Arrangement, GridsOfAnySizeInAnyOrder) {
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    const Parts counts = {1 + random.index(5), 2 + random.index(5), 2 + random.index(5)};
    Layout layout = grid({40, 50, 60}, counts, random);
    const bool cells = std::ranges::all_of(layout.boxes, [](const Box& box) {
      return box.sizes[0] > 0 && box.sizes[1] > 0 && box.sizes[2] > 0;
    });
    shuffle(layout.boxes, random);
    const boxes::Arrangement found = of(3, layout.boxes);
    if (cells) {
      EXPECT_EQ(found.kind, Kind::kGrid);
      EXPECT_EQ(found.parts, counts);
    }
    layout.boxes.pop_back();
    if (cells) {
      EXPECT_EQ(of(3, layout.boxes).kind, Kind::kIrregular);
    }
  }
}

TEST(Arrangement, OverlapsHolesAndSplitsAreIrregular) {
  EXPECT_EQ(of(1, {{{0}, {2}}, {{0}, {2}}}).kind, Kind::kIrregular);
  EXPECT_EQ(of(1, {{{0}, {2}}, {{1}, {2}}}).kind, Kind::kIrregular);
  EXPECT_EQ(of(1, {{{0}, {2}}, {{3}, {2}}}).kind, Kind::kIrregular);
  EXPECT_EQ(of(2, {{{0, 0}, {4, 2}}, {{0, 2}, {2, 2}}, {{2, 2}, {2, 2}}}).kind, Kind::kIrregular);
  EXPECT_EQ(boxes::recognise(columns(2, nested_pinwheel(3).boxes)).kind, Kind::kIrregular);
}

}  // namespace
}  // namespace shardplan::testing
