#include "core/inspect/entry_boxes.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "inspect/checkpoints.h"

namespace shardplan::testing {
namespace {

TEST(EntryBoxes, AWholeCheckpointIsValid) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  EXPECT_TRUE(inspect::invalid_entries(checkpoint, true).empty());
  EXPECT_EQ(inspect::boxes_of(checkpoint, 0)->size(), 2);
  const auto found = inspect::arrangements(checkpoint);
  ASSERT_EQ(found.size(), 2);
  EXPECT_EQ(found[0].kind, boxes::Arrangement::Kind::kOneDim);
  EXPECT_EQ(found[0].parts, (std::vector<std::size_t>{2, 1}));
}

TEST(EntryBoxes, AMovedChunkIsInvalid) {
  for (const int protocol : {2, 4}) {
    const inspect::Checkpoint checkpoint = checkpoint_of(with_second_chunk_at_0(protocol));
    // Both chunks lie at row 0: they overlap and leave a hole.
    EXPECT_EQ(inspect::invalid_entries(checkpoint, true), (std::vector<std::size_t>{0}));
    EXPECT_EQ(inspect::invalid_entries(checkpoint, false), (std::vector<std::size_t>{0}));
  }
}

TEST(EntryBoxes, ThePulseInterrupts) {
  const inspect::Checkpoint checkpoint = checkpoint_of(upstream_pickle(4));
  const util::Pulse pulse([] { throw std::runtime_error("interrupted"); });
  EXPECT_THROW(inspect::invalid_entries(checkpoint, true, pulse), std::runtime_error);
  const util::Pulse other([] { throw std::runtime_error("interrupted"); });
  EXPECT_THROW(inspect::arrangements(checkpoint, other), std::runtime_error);
}

}  // namespace
}  // namespace shardplan::testing
