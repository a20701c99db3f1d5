#include "core/inspect/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/inspect/reshard_cost.h"
#include "core/inspect/storage_faults.h"
#include "inspect/checkpoints.h"

namespace shardplan::testing {
namespace {

/// Returns a file size for each path of the upstream pickle; the other texts are not paths.
std::vector<std::int64_t> sizes(const inspect::Checkpoint& checkpoint, std::int64_t of_0,
                                std::int64_t of_1) {
  std::vector<std::int64_t> all;
  const util::TextTable& paths = *checkpoint.locations().paths;
  for (std::size_t text = 0; text < paths.size(); ++text) {
    all.push_back(paths[text] == "__0_0.distcp" ? of_0 : paths[text] == "__1_0.distcp" ? of_1 : -1);
  }
  return all;
}

constexpr std::int64_t kEnd = 5'000'000'000 + 70'000;

TEST(Checkpoint, OfAnUpstreamPickle) {
  for (const int protocol : {2, 4}) {
    const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(protocol));
    ASSERT_EQ(checkpoint.chunks().size(), 2);
    EXPECT_EQ(checkpoint.name(0), "a.b");
    EXPECT_EQ(checkpoint.dtype(0), "float32");
    EXPECT_TRUE(columns::writes_tensor(checkpoint.kind(0)));
    EXPECT_EQ(checkpoint.name(1), "x");
    EXPECT_EQ(checkpoint.kind(1), columns::WriteKind::kBytes);
    EXPECT_EQ(checkpoint.dtype(1), "");
    EXPECT_EQ(checkpoint.location_of_chunk(0), 0);
    EXPECT_EQ(checkpoint.location_of_chunk(1), 1);
    EXPECT_EQ(checkpoint.location_of_object(1), 2);
    const auto remarks = checkpoint.remarks();
    const std::pair<std::string, std::string> version("version", "1.0.0");
    EXPECT_NE(std::ranges::find(remarks, version), remarks.end());
    EXPECT_EQ(checkpoint.part_of_chunk(1).entry, 0);
    EXPECT_EQ(checkpoint.part_of_chunk(1).chunk, 1);
    const auto parts = checkpoint.parts_of_locations();
    EXPECT_EQ(parts[1].chunk, 1);
    EXPECT_EQ(parts[2].chunk, inspect::Checkpoint::kNowhere);
  }
}

TEST(Checkpoint, EveryTruncationIsRefused) {
  const std::string_view whole = upstream_pickle(4);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(checkpoint_of(whole.substr(0, length)), pickle::BadPickle);
  }
}

TEST(Checkpoint, EveryBitFlipIsReadOrRefused) {
  const std::string whole(upstream_pickle(4));
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      const inspect::Checkpoint checkpoint = checkpoint_of(flipped);
      const std::vector<std::int64_t> none(checkpoint.locations().paths->size(), -1);
      const inspect::StorageFaults faults = inspect::check_storage(checkpoint, none);
      EXPECT_EQ(faults.no_file.size() + faults.repeated.size(), checkpoint.locations().size());
      const std::vector<std::vector<boxes::Placement>> layouts = {{{}}};
      const std::vector<std::uint32_t> layout_of(checkpoint.chunks().size());
      const std::vector<std::int64_t> element_sizes(checkpoint.chunks().size(), 4);
      inspect::reshard_cost(checkpoint, std::vector<std::int64_t>{2}, layouts, layout_of,
                            element_sizes);
    } catch (const std::invalid_argument&) {
    }
  }
}

TEST(StorageFaults, NoneOfAWholeCheckpoint) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  const inspect::StorageFaults faults =
      inspect::check_storage(checkpoint, sizes(checkpoint, kEnd, kEnd));
  EXPECT_TRUE(faults.chunks_without_location.empty() && faults.objects_without_location.empty());
  EXPECT_TRUE(faults.no_file.empty() && faults.beyond_end.empty() && faults.shared.empty());
  EXPECT_TRUE(faults.unclaimed.empty());
}

TEST(StorageFaults, FilesThatAreGoneOrShort) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  EXPECT_EQ(inspect::check_storage(checkpoint, sizes(checkpoint, -1, kEnd)).no_file,
            (std::vector<std::size_t>{0, 2}));
  EXPECT_EQ(inspect::check_storage(checkpoint, sizes(checkpoint, kEnd, kEnd - 1)).beyond_end,
            (std::vector<std::size_t>{1}));
  EXPECT_EQ(inspect::check_storage(checkpoint, sizes(checkpoint, 17, kEnd)).beyond_end,
            (std::vector<std::size_t>{0, 2}));
  EXPECT_THROW(inspect::check_storage(checkpoint, {}), std::invalid_argument);
}

TEST(StorageFaults, AKeyThatComesTwiceLiesWhereItsLastValueSays) {
  for (const int protocol : {2, 4}) {
    std::string twice(upstream_pickle(protocol));
    // The offset of the second key, [2, 0], becomes that of the first; their chunk indices still
    // differ.
    twice[twice.rfind("K\2K") + 1] = 0;
    const inspect::Checkpoint checkpoint = checkpoint_of(twice);
    EXPECT_EQ(checkpoint.location_of_chunk(0), 1);
    EXPECT_EQ(checkpoint.location_of_chunk(1), inspect::Checkpoint::kNowhere);
    EXPECT_EQ(checkpoint.parts_of_locations()[0].entry, inspect::Checkpoint::kNowhere);
    const inspect::StorageFaults faults =
        inspect::check_storage(checkpoint, sizes(checkpoint, kEnd, -1));
    EXPECT_EQ(faults.repeated, (std::vector<std::pair<std::size_t, std::size_t>>{{0, 1}}));
    EXPECT_EQ(faults.no_file, (std::vector<std::size_t>{1}));
    EXPECT_EQ(faults.chunks_without_location, (std::vector<std::size_t>{1}));
    EXPECT_TRUE(faults.unclaimed.empty() && faults.shared.empty());
  }
}

TEST(ReshardCost, OfAnUpstreamPickle) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  const std::vector<std::vector<boxes::Placement>> layouts = {
      {{boxes::Placement::Kind::kShard, 0, 1}}, {{boxes::Placement::Kind::kShard, 1, 1}}};
  const std::vector<std::int64_t> mesh = {2};
  const std::vector<std::int64_t> element_sizes = {4, 0};
  const auto by_rows = inspect::reshard_cost(checkpoint, mesh, layouts,
                                             std::vector<std::uint32_t>{0, 0}, element_sizes);
  ASSERT_EQ(by_rows.size(), 2);
  EXPECT_EQ(by_rows[0].wanted, 2 * 300 * 4 + 11);
  EXPECT_EQ(by_rows[0].read, 70'000 + 11);
  EXPECT_EQ(by_rows[0].requests, 2);
  EXPECT_EQ(by_rows[0].files, 1);
  EXPECT_EQ(by_rows[1].files, 2);
  const auto by_columns = inspect::reshard_cost(checkpoint, mesh, layouts,
                                                std::vector<std::uint32_t>{1, 0}, element_sizes);
  EXPECT_EQ(by_columns[0].read, 2 * 70'000 + 11);
  EXPECT_EQ(by_columns[0].requests, 3);
}

TEST(ReshardCost, BadArgumentsAreRefused) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  const std::vector<std::vector<boxes::Placement>> layouts = {
      {{boxes::Placement::Kind::kShard, 0, 1}}};
  const std::vector<std::int64_t> mesh = {2};
  const std::vector<std::int64_t> element_sizes = {4, 0};
  const std::vector<std::uint32_t> first = {0, 0};
  const std::vector<std::uint32_t> absent = {1, 0};
  const std::vector<std::int64_t> two_dims = {2, 2};
  const std::vector<std::int64_t> huge = {INT64_MAX, 0};
  EXPECT_THROW(inspect::reshard_cost(checkpoint, mesh, layouts, absent, element_sizes),
               std::invalid_argument);
  EXPECT_THROW(inspect::reshard_cost(checkpoint, two_dims, layouts, first, element_sizes),
               std::invalid_argument);
  EXPECT_THROW(inspect::reshard_cost(checkpoint, mesh, layouts, {}, element_sizes),
               std::invalid_argument);
  EXPECT_THROW(inspect::reshard_cost(checkpoint, mesh, layouts, first, huge),
               std::invalid_argument);
}

}  // namespace
}  // namespace shardplan::testing
