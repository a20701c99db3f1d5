#include "core/planning/dedup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/planning/rows_by_name.h"
#include "planning/reference_dedup.h"
#include "random_plans.h"

namespace shardplan::testing {
namespace {

using planning::Keeper;

Keeper upstream(bool save_to_lowest_rank) {
  return save_to_lowest_rank ? Keeper::kLowestRank : Keeper::kFewestBytes;
}

/// Arbitrary order of a group of ranks; equal groups have equal orders.
std::vector<std::uint32_t> mixed(std::span<const std::uint32_t> ranks) {
  std::uint64_t seed = ranks.size();
  for (const std::uint32_t rank : ranks) seed = seed * 31 + rank;
  Random random(seed);
  std::vector<std::uint32_t> out = as_given(ranks);
  for (std::size_t i = out.size(); i > 1; --i) std::swap(out[i - 1], out[random.index(i)]);
  return out;
}

/// Job with one table, in which entry i has name i, one property row with 1-byte elements, and
/// `ranks` plans without rows.
Job plain_job(std::size_t ranks, const std::vector<Numbers>& shapes) {
  Job job;
  job.name_count = shapes.size();
  job.tables.resize(1);
  job.name_of_entry.resize(1);
  job.element_size = {{1}};
  for (const Numbers& shape : shapes) {
    const auto name = static_cast<std::uint32_t>(job.tables[0].size());
    job.tables[0].name.push_back(name);
    job.tables[0].spec.push_back(job.tables[0].specs.push(columns::WriteKind::kShard, 0, shape));
    job.name_of_entry[0].push_back(name);
  }
  job.plans.resize(ranks);
  job.table_of.resize(ranks);
  job.counted.resize(ranks);
  return job;
}

void add_row(Job& job, std::size_t rank, std::uint32_t entry, const Numbers& offsets) {
  std::ranges::copy(offsets, job.plans[rank].rows.push(entry, offsets.size()));
}

std::optional<Kept> deduped(const Job& job, bool lowest, const planning::SetOrder& set_order) {
  return planning::dedup(job.ranks(), job.name_count, upstream(lowest), set_order);
}

TEST(Dedup, RandomJobsAsUpstream) {
  Random random(21);
  int with_duplicates = 0;
  int order_matters = 0;
  for (int round = 0; round < 4000; ++round) {
    SCOPED_TRACE(round);
    const Job job = random_job(random);
    const std::vector<columns::RankPlan> ranks = job.ranks();
    std::set<Kept> answers;
    for (const planning::SetOrder& set_order :
         {planning::SetOrder(as_given), planning::SetOrder(reversed), planning::SetOrder(mixed)}) {
      for (const bool lowest : {false, true}) {
        const Kept expected = upstream_dedup(ranks, lowest, set_order);
        ASSERT_EQ(planning::dedup(ranks, job.name_count, upstream(lowest), set_order), expected);
        if (!lowest) answers.insert(expected);
      }
    }
    std::size_t rows = 0;
    for (const columns::RankPlan& plan : ranks) rows += plan.view.size();
    std::size_t kept = 0;
    for (const std::vector<std::uint32_t>& of_rank : *answers.begin()) kept += of_rank.size();
    with_duplicates += kept < rows;
    order_matters += answers.size() > 1;
  }
  EXPECT_GT(with_duplicates, 1000);
  EXPECT_GT(order_matters, 1000);
}

TEST(Dedup, RandomJobsAreBalanced) {
  Random random(22);
  int differs = 0;
  for (int round = 0; round < 4000; ++round) {
    SCOPED_TRACE(round);
    const Job job = random_job(random);
    const std::vector<columns::RankPlan> ranks = job.ranks();
    const Kept expected = balanced_dedup(ranks);
    ASSERT_EQ(planning::dedup(ranks, job.name_count, Keeper::kBalanced, as_given), expected);
    differs += expected != upstream_dedup(ranks, false, as_given);
  }
  EXPECT_GT(differs, 1000);
}

TEST(Dedup, ARowWithAnOverrideNeedsNoProperties) {
  Job job = plain_job(2, {{4}, {2}});
  job.element_size = {{}};
  for (std::size_t rank = 0; rank < 2; ++rank) {
    for (std::uint32_t entry = 0; entry < 2; ++entry) {
      const std::int64_t size = job.tables[0].specs.shape(entry)[0];
      std::ranges::copy(Numbers{0, size}, job.plans[rank].rows.push(entry, 1));
    }
    job.counted[rank] = {32, 16};
  }
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0}, {1}}));
  EXPECT_EQ(planning::dedup(job.ranks(), 2, Keeper::kBalanced, as_given), (Kept{{0}, {1}}));
}

TEST(Dedup, NoPlansAndPlansWithoutRows) {
  EXPECT_EQ(planning::dedup({}, 0, Keeper::kFewestBytes, as_given), Kept());
  EXPECT_EQ(planning::dedup({}, 3, Keeper::kFewestBytes, as_given), Kept());
  EXPECT_EQ(deduped(plain_job(2, {{4}}), false, as_given), Kept(2));
}

TEST(Dedup, TiesFallInSetOrder) {
  Job job = plain_job(3, {{4}, {4}, {4}});
  for (std::size_t rank = 0; rank < 3; ++rank) {
    for (std::uint32_t entry = 0; entry < 3; ++entry) add_row(job, rank, entry, {0});
  }
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0}, {1}, {2}}));
  EXPECT_EQ(deduped(job, false, reversed), (Kept{{2}, {1}, {0}}));
  const auto turned = [](std::span<const std::uint32_t>) {
    return std::vector<std::uint32_t>{1, 2, 0};
  };
  EXPECT_EQ(deduped(job, false, turned), (Kept{{2}, {0}, {1}}));
  EXPECT_EQ(deduped(job, true, reversed), (Kept{{0, 1, 2}, {}, {}}));
}

TEST(Dedup, FewestBytesSoFarWrites) {
  Job job = plain_job(2, {{8}, {3}, {4}, {2}});
  for (std::size_t rank = 0; rank < 2; ++rank) {
    for (std::uint32_t entry = 0; entry < 4; ++entry) add_row(job, rank, entry, {0});
  }
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0}, {1, 2, 3}}));
  // A shard counts with the bytes of its whole tensor. A row without bytes counts as one byte.
  job.element_size = {{0}};
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0, 2}, {1, 3}}));
}

TEST(Dedup, BytesAreThoseOfTheLastRow) {
  Job job = plain_job(2, {{8}, {4}, {4}});
  job.tables.push_back(job.tables[0]);
  job.tables[1].specs.properties[1] = 1;
  job.name_of_entry.push_back(job.name_of_entry[0]);
  job.element_size.push_back({1, 100});
  job.table_of[1] = 1;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    for (std::uint32_t entry = 0; entry < 3; ++entry) add_row(job, rank, entry, {0});
  }
  // The last rows have 8 and 400 bytes; the first rows would have 8 and 4.
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0, 2}, {1}}));
}

TEST(Dedup, RowsOfOnePlanStayTogether) {
  Job job = plain_job(2, {{4}});
  for (const std::size_t rank : {0U, 0U, 1U, 1U, 1U}) add_row(job, rank, 0, {0});
  add_row(job, 0, 0, {2});
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0, 1, 2}, {}}));
  EXPECT_EQ(deduped(job, false, reversed), (Kept{{2}, {0, 1, 2}}));
}

TEST(Dedup, BytesRowIsNoZeroDimTensor) {
  Job job = plain_job(3, {{}, {}});
  job.tables[0].specs.kind[1] = columns::WriteKind::kBytes;
  job.name_count = 1;
  job.name_of_entry[0] = {0, 0};
  add_row(job, 0, 0, {});
  add_row(job, 1, 1, {});
  EXPECT_EQ(deduped(job, true, as_given), (Kept{{0}, {0}, {}}));
  add_row(job, 2, 0, {});
  add_row(job, 2, 1, {});
  EXPECT_EQ(deduped(job, true, as_given), (Kept{{0}, {0}, {}}));
  EXPECT_EQ(deduped(job, false, reversed), (Kept{{}, {0}, {0}}));
}

TEST(Dedup, ChosenRowsAreGivenByTheirNumberInThePlan) {
  Job job = plain_job(2, {{4}, {4}});
  for (std::size_t rank = 0; rank < 2; ++rank) {
    for (const std::uint32_t entry : {0U, 1U, 0U, 1U})
      add_row(job, rank, entry, {rank == 0 ? 0 : 2});
  }
  add_row(job, 1, 0, {0});
  job.plans[0].chosen = {1, 2};
  job.plans[1].chosen = {3, 4};
  EXPECT_EQ(deduped(job, true, as_given), (Kept{{1, 2}, {3}}));
}

TEST(Dedup, BytesBeyondInt64) {
  Job job = plain_job(2, {{INT64_MAX}, {1}});
  add_row(job, 0, 0, {0});
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0}, {}}));
  add_row(job, 1, 1, {0});
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0}, {0}}));
  add_row(job, 0, 1, {1});  // rank 0 has one byte more
  EXPECT_EQ(deduped(job, false, as_given), std::nullopt);
  EXPECT_EQ(deduped(job, true, as_given), std::nullopt);
  job.plans[0].chosen = {0};
  job.element_size = {{2}};
  EXPECT_EQ(deduped(job, false, as_given), std::nullopt);
  job.counted[0] = {7, 7};  // overrides the bytes of the tensor
  EXPECT_EQ(deduped(job, false, as_given), (Kept{{0}, {0}}));
}

TEST(Dedup, EachGroupOfRanksIsOrderedOnce) {
  Job job = plain_job(4, {{4}, {4}, {4}, {4}});
  for (std::uint32_t entry = 0; entry < 4; ++entry) {
    for (std::size_t rank = entry % 2; rank < 4; rank += 2) add_row(job, rank, entry, {0});
    add_row(job, 3, entry, {entry + 1});
  }
  std::vector<std::vector<std::uint32_t>> asked;
  const auto set_order = [&asked](std::span<const std::uint32_t> ranks) {
    return asked.emplace_back(ranks.begin(), ranks.end());
  };
  ASSERT_TRUE(deduped(job, false, set_order));
  std::ranges::sort(asked);
  EXPECT_EQ(asked, (std::vector<std::vector<std::uint32_t>>{{0, 2}, {1, 3}}));
  asked.clear();
  ASSERT_TRUE(deduped(job, true, set_order));
  EXPECT_TRUE(asked.empty());
}

// With this many shards, a check of all pairs would exceed the time limit of the test.
TEST(Dedup, ManyShardsOfOneTensor) {
  constexpr std::int64_t kSide = 300;
  Job job = plain_job(4, {{kSide, kSide}});
  for (std::size_t rank = 0; rank < 4; ++rank) {  // ranks 0 and 2 have equal rows, as have 1 and 3
    for (std::int64_t row = static_cast<std::int64_t>(rank % 2); row < kSide; row += 2) {
      for (std::int64_t column = 0; column < kSide; ++column) add_row(job, rank, 0, {row, column});
    }
  }
  std::vector<std::uint32_t> all(kSide * kSide / 2);
  std::iota(all.begin(), all.end(), 0U);
  EXPECT_EQ(deduped(job, true, as_given), (Kept{all, all, {}, {}}));
}

TEST(RowsByName, RandomJobsAsASortByName) {
  Random random(22);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const Job job = random_job(random);
    const std::vector<columns::RankPlan> ranks = job.ranks();
    const planning::RowsByName rows(ranks, job.name_count);
    ASSERT_EQ(rows.name_count(), job.name_count);
    std::size_t at = 0;
    for (std::uint32_t name = 0; name < job.name_count; ++name) {
      ASSERT_EQ(rows.begin(name), at);
      for (std::uint32_t rank = 0; rank < ranks.size(); ++rank) {
        for (std::uint32_t position = 0; position < ranks[rank].view.size(); ++position) {
          if (ranks[rank].name(position) != name) continue;
          ASSERT_LT(at, rows.size());
          EXPECT_EQ(rows[at].plan, rank);
          EXPECT_EQ(rows[at].position, position);
          ++at;
        }
      }
      ASSERT_EQ(rows.end(name), at);
    }
    ASSERT_EQ(rows.size(), at);
  }
}

}  // namespace
}  // namespace shardplan::testing
