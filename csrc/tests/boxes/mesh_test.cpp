#include "core/boxes/mesh.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;

TEST(Mesh, CoordinatesAreRowMajor) {
  std::vector<Numbers> seen;
  boxes::for_each_coordinate(Numbers{2, 3}, [&](const Numbers& at) { seen.push_back(at); });
  EXPECT_EQ(seen, (std::vector<Numbers>{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}}));
}

TEST(Mesh, RankCountIsLimited) {
  EXPECT_EQ(boxes::rank_count(Numbers{128, 8}), 1024);
  EXPECT_EQ(boxes::rank_count(Numbers{1 << 20}), boxes::kMaxRanks);
  for (const Numbers& shape : {Numbers{}, Numbers{0}, Numbers{4, -1}, Numbers{(1 << 20) + 1},
                               Numbers{1 << 20, 1 << 20, 1 << 20, 1 << 20}, Numbers{INT64_MAX}}) {
    EXPECT_THROW(boxes::rank_count(shape), std::invalid_argument);
  }
}

}  // namespace
}  // namespace shardplan::testing
