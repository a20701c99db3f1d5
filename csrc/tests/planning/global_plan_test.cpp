#include "core/planning/global_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "planning/reference_dedup.h"
#include "random_plans.h"

namespace shardplan::planning {

bool operator==(const RowOfPlan& a, const RowOfPlan& b) {
  return a.plan == b.plan && a.position == b.position;
}
void PrintTo(const RowOfPlan& row, std::ostream* out) {
  *out << row.plan << ":" << row.position;
}

}  // namespace shardplan::planning

namespace shardplan::testing {
namespace {

/// Entry of `Metadata`, with the fields of `GlobalPlan`.
struct Entry {
  std::uint32_t name;
  planning::RowOfPlan first;
  bool bytes;
  std::vector<planning::RowOfPlan> chunks;

  bool operator==(const Entry&) const = default;
};
void PrintTo(const Entry& entry, std::ostream* out) {
  *out << entry.name << (entry.bytes ? " bytes " : " tensor ") << entry.first.plan << ":"
       << entry.first.position << " with " << entry.chunks.size();
}

struct Merged {
  std::vector<Entry> entries;
  std::vector<std::vector<std::int64_t>> chunk_indices;
};

/// Reference: upstream's `create_default_global_save_plan`, statement by statement; nullopt if it
/// raises.
std::optional<Merged> upstream(std::span<const columns::RankPlan> plans) {
  Merged out;
  std::map<std::uint32_t, std::size_t> md;  // name -> index in entries
  for (std::uint32_t rank = 0; rank < plans.size(); ++rank) {
    std::vector<std::int64_t> chunk_indices;
    for (std::uint32_t position = 0; position < plans[rank].view.size(); ++position) {
      const std::uint32_t name = plans[rank].name(position);
      const columns::WriteKind kind = plans[rank].view.kind(position);
      if (kind != columns::WriteKind::kShard && md.contains(name)) return std::nullopt;
      const planning::RowOfPlan row{rank, position};
      if (md.try_emplace(name, out.entries.size()).second) {
        out.entries.push_back({name, row, kind == columns::WriteKind::kBytes, {}});
      }
      if (kind == columns::WriteKind::kBytes) {
        chunk_indices.push_back(columns::kNoChunkIndex);
        continue;
      }
      Entry& entry = out.entries[md[name]];
      if (entry.bytes) return std::nullopt;  // BytesStorageMetadata has no chunks
      chunk_indices.push_back(static_cast<std::int64_t>(entry.chunks.size()));
      entry.chunks.push_back(row);
    }
    out.chunk_indices.push_back(std::move(chunk_indices));
  }
  return out;
}

void expect_as_upstream(std::span<const columns::RankPlan> plans, std::size_t name_count) {
  const std::optional<Merged> expected = upstream(plans);
  const std::optional<planning::GlobalPlan> made = planning::make_global_plan(plans, name_count);
  ASSERT_EQ(made.has_value(), expected.has_value());
  if (!made) return;
  std::vector<Entry> entries;
  std::size_t end = 0;
  for (const planning::SavedEntry& entry : made->entries) {
    ASSERT_EQ(entry.begin, end);
    end = entry.end;
    ASSERT_LE(entry.begin, entry.end);
    ASSERT_LE(entry.end, made->chunks.size());
    const auto at = [&made](std::size_t chunk) {
      return made->chunks.begin() + static_cast<std::ptrdiff_t>(chunk);
    };
    entries.push_back({entry.name, entry.first, entry.bytes, {at(entry.begin), at(entry.end)}});
  }
  EXPECT_EQ(end, made->chunks.size());
  EXPECT_EQ(entries, expected->entries);
  EXPECT_EQ(made->chunk_indices, expected->chunk_indices);
}

/// Table in which each name is a sharded 0-d tensor.
Job shards(std::size_t names, const std::vector<std::vector<std::uint32_t>>& rows) {
  Job job;
  job.name_count = names;
  job.tables.resize(1);
  job.name_of_entry.resize(1);
  job.element_size = {{1}};
  for (std::uint32_t name = 0; name < names; ++name) {
    job.tables[0].name.push_back(name);
    job.tables[0].spec.push_back(job.tables[0].specs.push(columns::WriteKind::kShard, 0, {}));
    job.name_of_entry[0].push_back(name);
  }
  for (const std::vector<std::uint32_t>& of_rank : rows) {
    job.plans.emplace_back();
    for (const std::uint32_t entry : of_rank) job.plans.back().rows.push(entry, 0);
  }
  job.table_of.resize(rows.size());
  job.counted.resize(rows.size());
  return job;
}

TEST(MakeGlobalPlan, RandomJobsAsUpstream) {
  Random random(31);
  int made = 0;
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    SCOPED_TRACE(round);
    Job job = random_job(random);
    expect_as_upstream(job.ranks(), job.name_count);
    // As after deduplication: each row is on one rank.
    const auto kept =
        planning::dedup(job.ranks(), job.name_count, planning::Keeper::kFewestBytes, as_given);
    ASSERT_TRUE(kept);
    for (std::size_t rank = 0; rank < kept->size(); ++rank) job.plans[rank].chosen = (*kept)[rank];
    expect_as_upstream(job.ranks(), job.name_count);
    ++(upstream(job.ranks()) ? made : refused);
  }
  EXPECT_GT(made, 500);
  EXPECT_GT(refused, 500);
}

TEST(MakeGlobalPlan, NoPlansAndPlansWithoutRows) {
  const std::optional<planning::GlobalPlan> none = planning::make_global_plan({}, 0);
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->entries.empty() && none->chunks.empty() && none->chunk_indices.empty());
  const std::optional<planning::GlobalPlan> empty =
      planning::make_global_plan(shards(3, {{}, {}}).ranks(), 3);
  ASSERT_TRUE(empty);
  EXPECT_TRUE(empty->entries.empty() && empty->chunks.empty());
  EXPECT_EQ(empty->chunk_indices, std::vector<std::vector<std::int64_t>>(2));
}

TEST(MakeGlobalPlan, ChunksAreNumberedThroughAllPlans) {
  const Job job = shards(3, {{2, 0, 2}, {0, 1}, {2}});
  const std::optional<planning::GlobalPlan> made = planning::make_global_plan(job.ranks(), 3);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->chunk_indices, (std::vector<std::vector<std::int64_t>>{{0, 0, 1}, {1, 0}, {2}}));
  ASSERT_EQ(made->entries.size(), 3u);  // in order of first appearance
  EXPECT_EQ(made->entries[0].name, 2u);
  EXPECT_EQ(made->entries[1].name, 0u);
  EXPECT_EQ(made->entries[2].name, 1u);
  EXPECT_EQ(made->entries[2].first, (planning::RowOfPlan{1, 1}));
  const std::vector<planning::RowOfPlan> chunks{{0, 0}, {0, 2}, {2, 0}, {0, 1}, {1, 0}, {1, 1}};
  EXPECT_EQ(made->chunks, chunks);
}

TEST(MakeGlobalPlan, OnlyShardsMayBeNamedTwice) {
  using Kinds = std::pair<columns::WriteKind, columns::WriteKind>;
  const columns::WriteKind kinds[] = {columns::WriteKind::kBytes, columns::WriteKind::kTensor,
                                      columns::WriteKind::kShard};
  for (const columns::WriteKind first : kinds) {
    for (const columns::WriteKind second : kinds) {
      Job job = shards(2, {{0, 1}, {}});
      job.name_of_entry[0] = {1, 1};
      job.tables[0].specs.kind = {first, second};
      const bool fine = second == columns::WriteKind::kShard && first != columns::WriteKind::kBytes;
      EXPECT_EQ(planning::make_global_plan(job.ranks(), 2).has_value(), fine)
          << ::testing::PrintToString(Kinds(first, second));
      expect_as_upstream(job.ranks(), 2);
      job.plans[0].rows = {};
      job.plans[0].rows.push(0, 0);
      job.plans[1].rows.push(1, 0);  // on another rank
      EXPECT_EQ(planning::make_global_plan(job.ranks(), 2).has_value(), fine);
    }
  }
}

TEST(MakeGlobalPlan, BytesHaveNeitherChunkNorHint) {
  Job job = shards(2, {{0, 1, 1}});
  job.tables[0].specs.kind[0] = columns::WriteKind::kBytes;
  const std::optional<planning::GlobalPlan> made = planning::make_global_plan(job.ranks(), 2);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->chunk_indices,
            (std::vector<std::vector<std::int64_t>>{{columns::kNoChunkIndex, 0, 1}}));
  EXPECT_TRUE(made->entries[0].bytes);
  EXPECT_EQ(made->entries[0].begin, made->entries[0].end);
  EXPECT_FALSE(made->entries[1].bytes);
  EXPECT_EQ(made->chunks.size(), 2u);
}

}  // namespace
}  // namespace shardplan::testing
