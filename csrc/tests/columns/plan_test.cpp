#include "core/columns/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;

void push_filled(columns::ReadColumns& rows, std::size_t ndim, std::int64_t number) {
  std::fill_n(rows.push(columns::ReadKind::kTensor, 1, 2, 3, ndim), 5 * ndim, number);
}

/// Entries: a 2-d shard, bytes, two 0-d tensors with equal specs, a 1-d shard.
columns::SaveTable small_table() {
  columns::SaveTable table;
  table.specs.push(columns::WriteKind::kShard, 6, Numbers{4, 5});
  table.specs.push(columns::WriteKind::kBytes, 0, {});
  table.specs.push(columns::WriteKind::kTensor, 8, {});
  table.specs.push(columns::WriteKind::kShard, 7, Numbers{9});
  table.name = {3, 2, 1, 0, 4};
  table.spec = {0, 1, 2, 2, 3};
  return table;
}

columns::SaveRows small_rows() {
  columns::SaveRows rows;
  std::int64_t number = 10;
  for (const auto& [entry, ndim] : {std::pair(4U, 1U), {1U, 0U}, {0U, 2U}, {3U, 0U}, {4U, 1U}}) {
    std::fill_n(rows.push(entry, ndim), 2 * ndim, ++number);
  }
  return rows;
}

TEST(EntrySpecs, ShapesAreContiguous) {
  const columns::EntrySpecs specs = small_table().specs;
  ASSERT_EQ(specs.size(), 4u);
  EXPECT_EQ(specs.shapes, (Numbers{4, 5, 9}));
  EXPECT_TRUE(std::ranges::equal(specs.shape(0), Numbers{4, 5}));
  EXPECT_TRUE(specs.shape(1).empty());
  EXPECT_TRUE(specs.shape(2).empty());
  EXPECT_TRUE(std::ranges::equal(specs.shape(3), Numbers{9}));
  EXPECT_EQ(specs.properties, (std::vector<std::uint32_t>{6, 0, 8, 7}));
}

TEST(EntrySpecs, PushReturnsTheIndex) {
  columns::EntrySpecs specs;
  EXPECT_EQ(specs.push(columns::WriteKind::kBytes, 0, {}), 0u);
  EXPECT_EQ(specs.push(columns::WriteKind::kShard, 0, Numbers{1}), 1u);
}

TEST(EntrySpecs, PushIfNewComparesAllFieldsOfTheLastSpec) {
  using columns::WriteKind;
  columns::EntrySpecs specs;
  EXPECT_EQ(specs.push_if_new(WriteKind::kBytes, 0, {}), 0u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kShard, 2, Numbers{4, 5}), 1u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kShard, 2, Numbers{4, 5}), 1u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kTensor, 2, Numbers{4, 5}), 2u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kTensor, 1, Numbers{4, 5}), 3u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kTensor, 1, Numbers{4, 6}), 4u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kTensor, 1, Numbers{4}), 5u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kTensor, 1, Numbers{4, 1}), 6u);
  EXPECT_EQ(specs.push_if_new(WriteKind::kBytes, 0, {}), 7u);
  EXPECT_EQ(specs.size(), 8u);
}

TEST(SaveTable, PushIfNewComparesNameAndSpecOfTheLastEntry) {
  using columns::WriteKind;
  columns::SaveTable table;
  EXPECT_EQ(table.push_if_new(7, WriteKind::kShard, 0, Numbers{4}), 0u);
  EXPECT_EQ(table.push_if_new(7, WriteKind::kShard, 0, Numbers{4}), 0u);
  EXPECT_EQ(table.push_if_new(8, WriteKind::kShard, 0, Numbers{4}), 1u);
  EXPECT_EQ(table.push_if_new(8, WriteKind::kShard, 0, Numbers{5}), 2u);
  EXPECT_EQ(table.push_if_new(7, WriteKind::kShard, 0, Numbers{5}), 3u);
  EXPECT_EQ(table.name, (std::vector<std::uint32_t>{7, 8, 8, 7}));
  EXPECT_EQ(table.spec, (std::vector<std::uint32_t>{0, 0, 1, 1}));
}

TEST(FindRecent, ReturnsTheNewestOfTheLastFewRows) {
  const std::vector<int> rows = {1, 5, 2, 5, 3, 4, 6, 7, 8, 9};
  const auto find = [&](int value) {
    return columns::find_recent(rows, [&](int row) { return row == value; });
  };
  EXPECT_EQ(find(5), 3u);
  EXPECT_EQ(find(2), 2u);
  EXPECT_EQ(find(9), 9u);
  EXPECT_EQ(find(1), std::nullopt);  // two rows too old
  EXPECT_EQ(columns::find_recent(std::vector<int>(), [](int) { return true; }), std::nullopt);
}

TEST(ChunkIndices, StayEmptyUntilARowHasOne) {
  Numbers indices;
  columns::push_chunk_index(indices, 0, columns::kNoChunkIndex);
  columns::push_chunk_index(indices, 1, columns::kNoChunkIndex);
  EXPECT_TRUE(indices.empty());
  columns::push_chunk_index(indices, 2, 5);
  columns::push_chunk_index(indices, 3, columns::kNoChunkIndex);
  EXPECT_EQ(indices,
            (Numbers{columns::kNoChunkIndex, columns::kNoChunkIndex, 5, columns::kNoChunkIndex}));
}

TEST(SaveRows, RowsOfDifferentDimsAreContiguous) {
  const columns::SaveRows rows = small_rows();
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows.entry, (std::vector<std::uint32_t>{4, 1, 0, 3, 4}));
  EXPECT_EQ(rows.first, (std::vector<std::size_t>{0, 2, 2, 6, 6}));
  EXPECT_EQ(rows.numbers, (Numbers{11, 11, 13, 13, 13, 13, 15, 15}));
}

TEST(SavePlanView, NullChosenMeansEveryRow) {
  const columns::SaveTable table = small_table();
  const columns::SaveRows rows = small_rows();
  const columns::SavePlanView view{&table, &rows};
  ASSERT_EQ(view.size(), 5u);
  for (std::size_t at = 0; at < view.size(); ++at) {
    SCOPED_TRACE(at);
    EXPECT_EQ(view.row(at), at);
    EXPECT_EQ(view.entry(at), rows.entry[at]);
    EXPECT_EQ(view.spec(at), table.spec[rows.entry[at]]);
    EXPECT_EQ(view.chunk_index(at), columns::kNoChunkIndex);
    EXPECT_EQ(view.ndim(at), view.shape(at).size());
  }
  EXPECT_EQ(view.kind(0), columns::WriteKind::kShard);
  EXPECT_EQ(view.kind(1), columns::WriteKind::kBytes);
  EXPECT_EQ(view.kind(3), columns::WriteKind::kTensor);
  EXPECT_EQ(view.ndim(2), 2u);
  EXPECT_EQ(view.numbers(2)[3], 13);
}

TEST(SavePlanView, ChunkIndicesAreByPositionOthersByRow) {
  const columns::SaveTable table = small_table();
  const columns::SaveRows rows = small_rows();
  const std::vector<std::uint32_t> chosen{2, 3, 4};
  const std::vector<std::int64_t> chunk_indices{7, columns::kNoChunkIndex, 9};
  const columns::SavePlanView view{&table, &rows, &chosen, &chunk_indices};
  ASSERT_EQ(view.size(), 3u);
  EXPECT_EQ(view.row(0), 2u);
  EXPECT_EQ(view.entry(1), 3u);
  EXPECT_EQ(view.spec(1), 2u);
  EXPECT_EQ(view.kind(1), columns::WriteKind::kTensor);
  EXPECT_EQ(view.ndim(1), 0u);
  EXPECT_TRUE(std::ranges::equal(view.shape(0), Numbers{4, 5}));
  EXPECT_EQ(view.numbers(2)[0], 15);
  EXPECT_EQ(view.chunk_index(0), 7);
  EXPECT_EQ(view.chunk_index(1), columns::kNoChunkIndex);
  EXPECT_EQ(view.chunk_index(2), 9);

  const std::vector<std::uint32_t> none;
  EXPECT_EQ((columns::SavePlanView{&table, &rows, &none}).size(), 0u);
}

TEST(ReadColumns, NewNumbersAreZero) {
  columns::ReadColumns rows;
  push_filled(rows, 1, 9);
  rows.truncate(0);
  rows.push(columns::ReadKind::kTensor, 0, 0, 0, 1);
  EXPECT_EQ(rows.numbers, std::vector<std::int64_t>(5, 0));
}

TEST(ReadColumns, TruncateDropsRowsAndTheirNumbers) {
  columns::ReadColumns rows;
  rows.push(columns::ReadKind::kBytes, 1);
  push_filled(rows, 2, 1);
  push_filled(rows, 0, 2);
  push_filled(rows, 1, 3);
  rows.push(columns::ReadKind::kObject, 1);

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
