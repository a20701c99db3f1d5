#include "core/simulate/world.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "core/wire/bytes.h"

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;
using Layouts = std::vector<std::vector<boxes::Placement>>;

constexpr boxes::Placement kRows{boxes::Placement::Kind::kShard, 0, 1};

std::vector<simulate::SimulatedTensor> two_tensors(const std::string& first_name) {
  return {{first_name, {7, 4}, "float32", 4, 0}, {"b", {3}, "bfloat16", 2, 0}};
}

TEST(World, EveryRankSendsItsLocalBoxes) {
  const Numbers mesh_shape{2};
  const simulate::World world(two_tensors("a"), mesh_shape, Layouts{{kRows}});
  const std::vector<std::string> plans = world.plans();
  ASSERT_EQ(plans.size(), 2);
  EXPECT_EQ(simulate::decode_plan(plans[0], world.table().table).rows.numbers,
            (Numbers{0, 0, 4, 4, 0, 2}));
  EXPECT_EQ(simulate::decode_plan(plans[1], world.table().table).rows.numbers,
            (Numbers{4, 0, 3, 4, 2, 1}));
}

TEST(ReceivedPlans, EncodesTheGlobalPlan) {
  const Numbers mesh_shape{2};
  const simulate::World world(two_tensors("a"), mesh_shape, Layouts{{kRows}});
  const simulate::ReceivedPlans received(world.plans(), world.element_sizes());
  planning::Coordinator coordinator(received.ranks(), received.name_count());
  ASSERT_TRUE(coordinator.drop_replicas(planning::Keeper::kFewestBytes, simulate::ascending));
  ASSERT_TRUE(coordinator.plan());
  const std::vector<std::string> sent = received.encode(coordinator);
  ASSERT_EQ(sent.size(), 2);
  EXPECT_EQ(simulate::decode_plan(sent[0], received.table().table).chunk_indices, (Numbers{0, 0}));
  EXPECT_EQ(simulate::decode_plan(sent[1], received.table().table).chunk_indices, (Numbers{1, 1}));
}

TEST(ReceivedPlans, AnotherTableIsRefusedWithItsRank) {
  const Numbers mesh_shape{2};
  std::vector<std::string> plans =
      simulate::World(two_tensors("a"), mesh_shape, Layouts{{kRows}}).plans();
  const simulate::World other(two_tensors("c"), mesh_shape, Layouts{{kRows}});
  plans[1] = other.plans()[1];
  try {
    const simulate::ReceivedPlans received(plans, other.element_sizes());
    FAIL() << "two tables were accepted";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "rank 1 has another table than rank 0");
  }
}

TEST(ReceivedPlans, BrokenBytesAreRefused) {
  const Numbers mesh_shape{2};
  const simulate::World world(two_tensors("a"), mesh_shape, Layouts{{kRows}});
  std::vector<std::string> plans = world.plans();
  plans[1].pop_back();
  EXPECT_THROW(simulate::ReceivedPlans(plans, world.element_sizes()), wire::BadWire);
}

}  // namespace
}  // namespace shardplan::testing
