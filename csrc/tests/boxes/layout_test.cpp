#include "core/boxes/layout.h"

#include <gtest/gtest.h>

#include <optional>

#include "core/boxes/validate.h"
#include "random_layouts.h"

namespace shardplan::testing {

void PrintTo(const Box& box, std::ostream* out) {
  *out << "offsets " << ::testing::PrintToString(box.offsets) << " sizes "
       << ::testing::PrintToString(box.sizes);
}

namespace {

using Placements = std::vector<boxes::Placement>;

boxes::Placement replicate() {
  return {};
}
boxes::Placement shard(std::int64_t dim) {
  return {boxes::Placement::Kind::kShard, dim, 1};
}
boxes::Placement strided(std::int64_t dim, std::int64_t split_factor) {
  return {boxes::Placement::Kind::kStridedShard, dim, split_factor};
}

std::optional<Box> local(const Numbers& shape, const Numbers& mesh_shape, const Numbers& coordinate,
                         const Placements& placements) {
  Box box{Numbers(shape.size()), Numbers(shape.size())};
  if (!boxes::local_box(shape, mesh_shape, coordinate, placements, box.offsets.data(),
                        box.sizes.data())) {
    return std::nullopt;
  }
  return box;
}

/// Returns every coordinate of a mesh in row-major order.
std::vector<Numbers> coordinates(const Numbers& mesh_shape) {
  std::vector<Numbers> all{{}};
  for (const std::int64_t ranks : mesh_shape) {
    std::vector<Numbers> longer;
    for (const Numbers& coordinate : all) {
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        longer.push_back(coordinate);
        longer.back().push_back(rank);
      }
    }
    all = longer;
  }
  return all;
}

void expect_as_chunked(const Numbers& shape, const Numbers& mesh_shape,
                       const Placements& placements) {
  for (const Numbers& coordinate : coordinates(mesh_shape)) {
    const std::optional<Box> box = local(shape, mesh_shape, coordinate, placements);
    ASSERT_TRUE(box.has_value());
    ASSERT_EQ(*box, chunked(shape, mesh_shape, coordinate, placements))
        << "coordinate " << ::testing::PrintToString(coordinate);
  }
}

TEST(LocalBox, ReplicatedIsTheWholeTensor) {
  EXPECT_EQ(local({3, 0}, {4}, {2}, {replicate()}), (Box{{0, 0}, {3, 0}}));
  EXPECT_EQ(local({}, {4}, {2}, {replicate()}), (Box{{}, {}}));
  EXPECT_EQ(local({3}, {4, 2}, {1, 1}, {}), (Box{{0}, {3}}));
}

TEST(LocalBox, UnevenShardsHaveCeilSizeThenAreEmpty) {
  EXPECT_EQ(local({5, 2}, {4}, {0}, {shard(0)}), (Box{{0, 0}, {2, 2}}));
  EXPECT_EQ(local({5, 2}, {4}, {2}, {shard(0)}), (Box{{4, 0}, {1, 2}}));
  EXPECT_EQ(local({5, 2}, {4}, {3}, {shard(0)}), (Box{{5, 0}, {0, 2}}));
  EXPECT_EQ(local({0}, {4}, {1}, {shard(0)}), (Box{{0}, {0}}));
}

TEST(LocalBox, TwoShardsOfOneDimNest) {
  EXPECT_EQ(local({10}, {2, 3}, {1, 0}, {shard(0), shard(0)}), (Box{{5}, {2}}));
  EXPECT_EQ(local({10}, {2, 3}, {1, 2}, {shard(0), shard(0)}), (Box{{9}, {1}}));
  // Empty after the second split only; starts at the size of the dim as well.
  EXPECT_EQ(local({4}, {2, 3}, {0, 2}, {shard(0), shard(0)}), (Box{{4}, {0}}));
}

TEST(LocalBox, StridedShardKeepsARunOfEachPiece) {
  // The pieces are 0-3, 4-7 and 8-9. The second of two ranks keeps 2, 3, 6, 7 and 9.
  EXPECT_EQ(local({10}, {2}, {1}, {strided(0, 3)}), (Box{{2}, {5}}));
  EXPECT_EQ(local({10}, {2}, {0}, {strided(0, 3)}), (Box{{0}, {5}}));
  // Pieces have one index each, so the first rank keeps all.
  EXPECT_EQ(local({3}, {2}, {0}, {strided(0, 8)}), (Box{{0}, {3}}));
  EXPECT_EQ(local({3}, {2}, {1}, {strided(0, 8)}), (Box{{3}, {0}}));
}

TEST(LocalBox, EveryPairOfPlacementsOfOneDim) {
  for (std::int64_t size = 0; size <= 24; ++size) {
    for (const boxes::Placement& first : {replicate(), shard(0), strided(0, 2), strided(0, 3)}) {
      for (const boxes::Placement& second : {replicate(), shard(0), strided(0, 2), strided(0, 5)}) {
        expect_as_chunked({size}, {3, 4}, {first, second});
      }
    }
  }
}

TEST(LocalBox, RandomPlacementsMatchBruteForce) {
  Random random(15);
  for (int round = 0; round < 1000; ++round) {
    SCOPED_TRACE(round);
    Numbers shape(1 + random.index(3));
    for (std::int64_t& size : shape) size = random.between(0, 60);
    Numbers mesh_shape(1 + random.index(4));
    for (std::int64_t& ranks : mesh_shape) ranks = random.between(1, 4);
    Placements placements(random.one_in(5) ? random.index(mesh_shape.size()) : mesh_shape.size());
    for (boxes::Placement& placement : placements) {
      const auto dim = static_cast<std::int64_t>(random.index(shape.size()));
      const std::size_t kind = random.index(4);
      if (kind == 0) placement = replicate();
      if (kind == 1) placement = shard(dim);
      if (kind >= 2) placement = strided(dim, random.between(1, 8));
    }
    expect_as_chunked(shape, mesh_shape, placements);
  }
}

TEST(LocalBox, ShardsOfAllRanksTileTheTensor) {
  Random random(16);
  for (int round = 0; round < 500; ++round) {
    const Numbers shape{random.between(0, 40), random.between(0, 40)};
    const Numbers mesh_shape{random.between(1, 5), random.between(1, 5), random.between(1, 5)};
    const Placements placements{shard(random.between(0, 1)), shard(random.between(0, 1)),
                                shard(random.between(0, 1))};
    BoxList boxes;
    for (const Numbers& coordinate : coordinates(mesh_shape)) {
      boxes.push_back(local(shape, mesh_shape, coordinate, placements).value());
    }
    ASSERT_EQ(boxes::check_boxes(columns(2, boxes), shape, true), boxes::Fault::kNone);
  }
}

TEST(LocalBox, HugeSizes) {
  EXPECT_EQ(local({INT64_MAX}, {2}, {1}, {shard(0)}),
            (Box{{INT64_C(1) << 62}, {INT64_MAX - (INT64_C(1) << 62)}}));
  EXPECT_EQ(local({INT64_MAX}, {1}, {0}, {strided(0, INT64_MAX)}), (Box{{0}, {INT64_MAX}}));
  EXPECT_EQ(local({1}, {INT64_MAX}, {INT64_MAX - 1}, {shard(0)}), (Box{{1}, {0}}));
  EXPECT_EQ(local({INT64_MAX}, {INT64_MAX}, {INT64_MAX - 1}, {shard(0)}),
            (Box{{INT64_MAX - 1}, {1}}));
}

TEST(LocalBox, RejectsStartsBeyondInt64) {
  // Shards have two elements; the last one would start at 2^64 - 6.
  EXPECT_FALSE(local({INT64_MAX}, {INT64_MAX - 1}, {INT64_MAX - 2}, {shard(0)}));
  EXPECT_EQ(local({INT64_MAX}, {INT64_MAX - 1}, {1}, {shard(0)}), (Box{{2}, {2}}));
}

TEST(LocalBox, RejectsUnsupportedArguments) {
  EXPECT_FALSE(local({4}, {2}, {0}, {shard(1)}));
  EXPECT_FALSE(local({4}, {2}, {0}, {shard(-1)}));
  EXPECT_FALSE(local({}, {2}, {0}, {shard(0)}));
  EXPECT_FALSE(local({-1}, {2}, {0}, {shard(0)}));
  EXPECT_FALSE(local({4}, {2}, {2}, {shard(0)}));
  EXPECT_FALSE(local({4}, {2}, {-1}, {shard(0)}));
  EXPECT_FALSE(local({4}, {0}, {0}, {shard(0)}));
  EXPECT_FALSE(local({4}, {2}, {0}, {strided(0, 0)}));
  EXPECT_FALSE(local({4}, {2}, {0}, {shard(0), shard(0)}));
  EXPECT_FALSE(local({4}, {2, 2}, {0}, {shard(0)}));
}

TEST(LocalBox, RejectsTooManyPlacements) {
  const Numbers mesh_shape(boxes::kMaxPlacements + 1, 1);
  const Numbers coordinate(boxes::kMaxPlacements + 1, 0);
  EXPECT_TRUE(local({4}, mesh_shape, coordinate, Placements(boxes::kMaxPlacements, shard(0))));
  EXPECT_FALSE(local({4}, mesh_shape, coordinate, Placements(boxes::kMaxPlacements + 1, shard(0))));
}

}  // namespace
}  // namespace shardplan::testing
