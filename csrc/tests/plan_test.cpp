#include "core/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace shardplan::testing {
namespace {

void push_filled(ReadColumns& rows, std::size_t ndim, std::int64_t number) {
  std::fill_n(rows.push(ReadKind::kTensor, 1, 2, 3, ndim), 5 * ndim, number);
}

TEST(SaveColumns, RowsOfDifferentDimsLieOneAfterAnother) {
  SaveColumns rows;
  rows.push(WriteKind::kBytes, 4);
  std::fill_n(rows.push(WriteKind::kShard, 5, 6, 2), 6, 11);
  rows.push(WriteKind::kTensor, 7, 8, 0);
  std::fill_n(rows.push(WriteKind::kTensor, 9, 8, 1), 3, 22);
  rows.push(WriteKind::kForeign, 0);

  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows.name, (std::vector<std::uint32_t>{4, 5, 7, 9, 0}));
  EXPECT_EQ(rows.properties, (std::vector<std::uint32_t>{0, 6, 8, 8, 0}));
  EXPECT_EQ(rows.ndim, (std::vector<std::uint32_t>{0, 2, 0, 1, 0}));
  EXPECT_EQ(rows.first, (std::vector<std::size_t>{0, 0, 6, 6, 9}));
  EXPECT_EQ(rows.numbers, (std::vector<std::int64_t>{11, 11, 11, 11, 11, 11, 22, 22, 22}));
}

TEST(ReadColumns, NewNumbersAreZero) {
  ReadColumns rows;
  push_filled(rows, 1, 9);
  rows.truncate(0);
  rows.push(ReadKind::kTensor, 0, 0, 0, 1);
  EXPECT_EQ(rows.numbers, std::vector<std::int64_t>(5, 0));
}

TEST(ReadColumns, TruncateDropsRowsAndTheirNumbers) {
  ReadColumns rows;
  rows.push(ReadKind::kBytes, 1);
  push_filled(rows, 2, 1);
  push_filled(rows, 0, 2);
  push_filled(rows, 1, 3);
  rows.push(ReadKind::kForeign, 1);

  rows.truncate(9);
  EXPECT_EQ(rows.size(), 5u);
  rows.truncate(5);
  EXPECT_EQ(rows.numbers.size(), 15u);
  rows.truncate(3);
  EXPECT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows.numbers, std::vector<std::int64_t>(10, 1));
  EXPECT_EQ(rows.first, (std::vector<std::size_t>{0, 0, 10}));
  push_filled(rows, 1, 4);
  EXPECT_EQ(rows.first.back(), 10u);
  EXPECT_EQ(rows.numbers.back(), 4);
  rows.truncate(0);
  EXPECT_EQ(rows.size(), 0u);
  EXPECT_TRUE(rows.numbers.empty());
  EXPECT_TRUE(rows.wanted.empty() && rows.saved.empty() && rows.name.empty());
}

}  // namespace
}  // namespace shardplan::testing
