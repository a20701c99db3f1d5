#include "core/inspect/usage.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "inspect/checkpoints.h"

namespace shardplan::testing {
namespace {

TEST(FileUsage, SumsThePartsOfEachFile) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  const std::vector<inspect::FileUsage> usage = inspect::file_usage(checkpoint);
  std::map<std::string, inspect::FileUsage> files;
  for (std::size_t path = 0; path < usage.size(); ++path) {
    if (usage[path].items > 0) {
      files.emplace((*checkpoint.locations().paths)[path], usage[path]);
    }
  }
  ASSERT_EQ(files.size(), 2);
  EXPECT_EQ(files["__0_0.distcp"].items, 2);
  EXPECT_EQ(files["__0_0.distcp"].bytes, 70'000 + 11);
  EXPECT_EQ(files["__0_0.distcp"].end, 5'000'000'000 + 70'000);
  EXPECT_EQ(files["__1_0.distcp"].items, 1);
  EXPECT_EQ(files["__1_0.distcp"].bytes, 70'000);
}

TEST(StoredBytes, SumsThePartsOfEachEntry) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  EXPECT_EQ(inspect::stored_bytes(checkpoint), (std::vector<std::int64_t>{2 * 70'000, 11}));
}

TEST(StoredBytes, AChunkWithoutALocationHasNone) {
  const inspect::Checkpoint checkpoint = checkpoint_of(with_second_chunk_at_0(4));
  EXPECT_EQ(checkpoint.location_of_chunk(0), checkpoint.location_of_chunk(1));
  // Both chunks have the key of the first one.
  EXPECT_EQ(inspect::stored_bytes(checkpoint)[0], 2 * 70'000);
  std::string twice(upstream_pickle(4));
  // The second key of storage_data becomes the first one, so the second chunk has no location.
  twice[twice.rfind("K\2K") + 1] = 0;
  const inspect::Checkpoint replaced = checkpoint_of(twice);
  EXPECT_EQ(inspect::stored_bytes(replaced)[0], 70'000);
  std::size_t items = 0;
  for (const inspect::FileUsage& file : inspect::file_usage(replaced)) items += file.items;
  EXPECT_EQ(items, 2);
}

}  // namespace
}  // namespace shardplan::testing
