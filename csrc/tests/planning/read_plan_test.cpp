#include "core/planning/read_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "random_layouts.h"

namespace shardplan::testing {
namespace {

using Pairs = std::vector<std::pair<std::size_t, std::size_t>>;

columns::ReadColumns reads(std::size_t ndim, const BoxList& saved, const BoxList& wanted) {
  columns::ReadColumns rows;
  EXPECT_TRUE(planning::append_reads(0, columns(ndim, saved), columns(ndim, wanted), rows));
  return rows;
}

Pairs pairs(const columns::ReadColumns& rows) {
  Pairs answer;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    answer.emplace_back(rows.wanted[row], rows.saved[row]);
  }
  return answer;
}

/// Returns the expected numbers of a row: the starts of both boxes, the offsets in both, the
/// lengths.
Numbers row_numbers(const Box& saved, const Box& wanted) {
  const std::size_t ndim = saved.offsets.size();
  Numbers numbers(5 * ndim);
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    const std::int64_t ahead = wanted.offsets[dim] - saved.offsets[dim];
    const std::int64_t end =
        std::min(saved.offsets[dim] + saved.sizes[dim], wanted.offsets[dim] + wanted.sizes[dim]);
    numbers[dim] = wanted.offsets[dim];
    numbers[ndim + dim] = saved.offsets[dim];
    numbers[2 * ndim + dim] = std::max<std::int64_t>(0, -ahead);
    numbers[3 * ndim + dim] = std::max<std::int64_t>(0, ahead);
    numbers[4 * ndim + dim] = end - std::max(saved.offsets[dim], wanted.offsets[dim]);
  }
  return numbers;
}

void expect_as_brute_force(std::size_t ndim, const BoxList& saved, const BoxList& wanted) {
  const columns::ReadColumns rows = reads(ndim, saved, wanted);
  ASSERT_EQ(pairs(rows), reads_in_order(ndim, saved, wanted));
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::int64_t* numbers = rows.numbers.data() + rows.first[row];
    ASSERT_EQ(Numbers(numbers, numbers + 5 * ndim),
              row_numbers(saved[rows.saved[row]], wanted[rows.wanted[row]]));
    ASSERT_EQ(rows.kind[row], columns::ReadKind::kTensor);
    ASSERT_EQ(rows.ndim[row], ndim);
  }
}

TEST(AppendReads, NothingSavedOrWanted) {
  EXPECT_EQ(reads(1, {}, {{{0}, {4}}}).size(), 0u);
  EXPECT_EQ(reads(1, {{{0}, {4}}}, {}).size(), 0u);
  EXPECT_EQ(reads(0, {}, {{}}).size(), 0u);
}

TEST(AppendReads, ZeroDimBoxesAllMeetInOrderOfIndex) {
  EXPECT_EQ(pairs(reads(0, {{}, {}}, {{}})), (Pairs{{0, 0}, {0, 1}}));
  const Pairs all = pairs(reads(0, BoxList(20), BoxList(6)));
  EXPECT_EQ(all, reads_in_order(0, BoxList(20), BoxList(6)));
  EXPECT_EQ(all.size(), 120u);
}

TEST(AppendReads, SavedBoxesComeByEndThenByIndex) {
  const BoxList saved{{{4}, {4}}, {{0}, {4}}, {{2}, {6}}, {{1}, {3}}};
  EXPECT_EQ(pairs(reads(1, saved, {{{0}, {8}}})), (Pairs{{0, 1}, {0, 3}, {0, 0}, {0, 2}}));
}

TEST(AppendReads, WantedBoxesComeByStartAndTiesInOrder) {
  const BoxList wanted{{{4}, {1}}, {{0}, {8}}, {{4}, {2}}, {{0}, {1}}};
  EXPECT_EQ(pairs(reads(1, {{{0}, {8}}}, wanted)), (Pairs{{1, 0}, {3, 0}, {0, 0}, {2, 0}}));
}

TEST(AppendReads, TheFirstDimOfTheFurthestEndIsSwept) {
  // Dim 1 has the larger end, and wanted box 1 starts first on it.
  const BoxList saved{{{0, 0}, {4, 9}}};
  EXPECT_EQ(pairs(reads(2, saved, {{{0, 3}, {1, 1}}, {{2, 1}, {1, 1}}})), (Pairs{{1, 0}, {0, 0}}));
  // Both dims end at 9, so dim 0 is swept.
  const BoxList square{{{0, 0}, {9, 9}}};
  EXPECT_EQ(pairs(reads(2, square, {{{2, 1}, {1, 1}}, {{0, 3}, {1, 1}}})), (Pairs{{1, 0}, {0, 0}}));
  // No end is above zero, so dim 0 is swept although dim 1 has the larger end.
  const BoxList negative{{{-9, -3}, {4, 3}}};
  EXPECT_EQ(pairs(reads(2, negative, {{{-6, -3}, {1, 1}}, {{-9, -1}, {1, 1}}})),
            (Pairs{{1, 0}, {0, 0}}));
}

TEST(AppendReads, ARowSaysWhatToReadAndWhereToPutIt) {
  const columns::ReadColumns rows = reads(2, {{{2, 0}, {4, 5}}}, {{{0, 3}, {3, 9}}});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows.numbers, (Numbers{0, 3, 2, 0, 2, 0, 0, 3, 1, 2}));
}

TEST(AppendReads, EmptyBoxInsideAnotherIsReadWithLengthZero) {
  const columns::ReadColumns rows = reads(1, {{{0}, {8}}}, {{{3}, {0}}});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows.numbers, (Numbers{3, 0, 0, 3, 0}));
  EXPECT_EQ(reads(1, {{{0}, {8}}}, {{{8}, {0}}}).size(), 0u);
}

TEST(AppendReads, AppendsAfterTheRowsOfOtherNames) {
  columns::ReadColumns rows;
  rows.push(columns::ReadKind::kBytes, 7);
  const boxes::Boxes saved = columns(1, {{{0}, {4}}, {{4}, {4}}});
  ASSERT_TRUE(planning::append_reads(8, saved, columns(1, {{{2}, {4}}}), rows));
  ASSERT_TRUE(planning::append_reads(9, saved, columns(1, {{{0}, {1}}}), rows));
  EXPECT_EQ(rows.name, (std::vector<std::uint32_t>{7, 8, 8, 9}));
  EXPECT_EQ(rows.first, (std::vector<std::size_t>{0, 0, 5, 10}));
  EXPECT_EQ(rows.numbers.size(), 15u);
}

TEST(AppendReads, LimitsOfInt64) {
  const BoxList ends{{{INT64_MIN}, {INT64_MAX}}, {{-1}, {INT64_MAX}}, {{INT64_MAX - 1}, {1}},
                     {{INT64_MIN}, {1}},         {{INT64_MAX}, {0}},  {{0}, {INT64_MAX}}};
  columns::ReadColumns rows;
  ASSERT_TRUE(planning::append_reads(0, columns(1, ends), columns(1, ends), rows));
  EXPECT_EQ(pairs(rows), reads_in_order(1, ends, ends));
}

TEST(AppendReads, RandomReshardsAsBruteForce) {
  Random random(13);
  for (int round = 0; round < 1500; ++round) {
    SCOPED_TRACE(round);
    const Layout saved = random_layout(random);
    BoxList wanted = recursive_split(saved.shape, 1 + random.index(20), random).boxes;
    shuffle(wanted, random);
    expect_as_brute_force(saved.shape.size(), saved.boxes, wanted);
  }
}

// From one wanted box to so many that one pass per box would be slow.
TEST(AppendReads, RandomBoxesAsBruteForce) {
  Random random(14);
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE(round);
    const std::size_t ndim = random.index(5);
    const BoxList saved = random_boxes(ndim, random.index(60), random);
    expect_as_brute_force(ndim, saved, random_boxes(ndim, random.index(12), random));
  }
}

TEST(OverlapRegion, OfBoxesApartIsNegative) {
  const boxes::Boxes boxes = columns(1, {{{0}, {2}}, {{5}, {2}}});
  std::int64_t in_saved = 0;
  std::int64_t in_wanted = 0;
  std::int64_t length = 0;
  ASSERT_TRUE(planning::overlap_region(boxes.starts(0), boxes.starts(1), 1, &in_saved, &in_wanted,
                                       &length));
  EXPECT_EQ(in_saved, 5);
  EXPECT_EQ(in_wanted, 0);
  EXPECT_EQ(length, -3);
}

TEST(OverlapRegion, RefusesDistancesBeyondInt64) {
  const boxes::Boxes boxes = columns(1, {{{INT64_MIN}, {1}}, {{INT64_MAX}, {0}}});
  const std::int64_t* low = boxes.starts(0);
  const std::int64_t* high = boxes.starts(1);
  std::int64_t numbers[3];
  EXPECT_FALSE(planning::overlap_region(low, high, 1, numbers, numbers + 1, numbers + 2));
  EXPECT_FALSE(planning::overlap_region(high, low, 1, numbers, numbers + 1, numbers + 2));
}

}  // namespace
}  // namespace shardplan::testing
