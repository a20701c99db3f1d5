#include "core/metadata/metadata_writer.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace shardplan::testing {
namespace {

std::vector<bool> flags(const metadata::RecordClasses& used) {
  return {used.size, used.chunk, used.tensor, used.bytes, used.index, used.location};
}

columns::StorageRows rows_of(std::uint8_t ndim) {
  columns::StorageRows rows;
  const auto texts = std::make_shared<util::TextTable>();
  const std::uint32_t text = texts->number_of("a");
  rows.names = texts;
  rows.paths = texts;
  std::int64_t* offset = rows.push(text, ndim, columns::kNoChunkIndex, text, 0, 8);
  if (ndim != columns::StorageRows::kNoOffset && ndim > 0) *offset = 0;
  return rows;
}

TEST(RecordClasses, NoRecordsUseNoClass) {
  const columns::SavedChunks no_entries;
  const columns::StorageRows no_rows;
  EXPECT_EQ(flags(metadata::classes_of(nullptr, nullptr)), std::vector<bool>(6));
  EXPECT_EQ(flags(metadata::classes_of(&no_entries, &no_rows)), std::vector<bool>(6));
}

TEST(RecordClasses, EntriesUseTheClassesOfTheirKinds) {
  columns::SavedChunks chunks;
  chunks.push(0, columns::WriteKind::kObject, 0, {}, 0);
  EXPECT_EQ(flags(metadata::classes_of(&chunks, nullptr)), std::vector<bool>(6));
  chunks.push(1, columns::WriteKind::kBytes, 0, {}, 0);
  EXPECT_EQ(flags(metadata::classes_of(&chunks, nullptr)),
            (std::vector<bool>{false, false, false, true, false, false}));
  // A tensor without chunks still has a size.
  chunks.push(2, columns::WriteKind::kShard, 0, std::vector<std::int64_t>{4}, 0);
  EXPECT_EQ(flags(metadata::classes_of(&chunks, nullptr)),
            (std::vector<bool>{true, false, true, true, false, false}));
  chunks.push(3, columns::WriteKind::kShard, 0, std::vector<std::int64_t>{4}, 1);
  EXPECT_EQ(flags(metadata::classes_of(&chunks, nullptr)),
            (std::vector<bool>{true, true, true, true, false, false}));
}

TEST(RecordClasses, PlansUseTheClassesOfTheirItems) {
  columns::SaveTable table;
  table.specs.push(columns::WriteKind::kBytes, 0, {});
  table.specs.push(columns::WriteKind::kShard, 0, {});
  table.name = {0, 1};
  table.spec = {0, 1};
  columns::SaveRows rows;
  const std::vector<columns::SavePlanView> plan{{&table, &rows}};
  metadata::RecordClasses used = metadata::classes_of(nullptr, nullptr, plan);
  EXPECT_TRUE(used.plan);
  EXPECT_FALSE(used.item || used.index || used.data);
  rows.push(0, 0);
  used = metadata::classes_of(nullptr, nullptr, plan);
  EXPECT_TRUE(used.item && used.index && used.write(columns::WriteKind::kBytes));
  EXPECT_FALSE(used.data || used.chunk || used.size || used.write(columns::WriteKind::kShard));
  rows.push(1, 0);
  used = metadata::classes_of(nullptr, nullptr, plan);
  EXPECT_TRUE(used.data && used.chunk && used.size && used.write(columns::WriteKind::kShard));
  EXPECT_FALSE(used.tensor || used.bytes || used.location ||
               used.write(columns::WriteKind::kTensor));
}

TEST(RecordClasses, OnlyRowsWithAnOffsetUseSize) {
  const columns::StorageRows bytes = rows_of(columns::StorageRows::kNoOffset);
  EXPECT_EQ(flags(metadata::classes_of(nullptr, &bytes)),
            (std::vector<bool>{false, false, false, false, true, true}));
  const columns::StorageRows tensor = rows_of(1);
  EXPECT_EQ(flags(metadata::classes_of(nullptr, &tensor)),
            (std::vector<bool>{true, false, false, false, true, true}));
}

}  // namespace
}  // namespace shardplan::testing
