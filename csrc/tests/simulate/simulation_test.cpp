#include "core/simulate/simulation.h"

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>
#include <vector>

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;
using Layouts = std::vector<std::vector<boxes::Placement>>;

constexpr planning::Keeper kUpstream = planning::Keeper::kFewestBytes;
constexpr boxes::Placement kReplicate{};
constexpr boxes::Placement kRows{boxes::Placement::Kind::kShard, 0, 1};
constexpr boxes::Placement kColumns{boxes::Placement::Kind::kShard, 1, 1};

std::int64_t total(const simulate::Simulation& done) {
  return std::accumulate(done.ranks.begin(), done.ranks.end(), std::int64_t{0},
                         [](std::int64_t sum, const auto& rank) { return sum + rank.bytes; });
}

TEST(Simulation, ShardsOfEveryRankAreWrittenOnce) {
  const std::vector<simulate::SimulatedTensor> tensors = {{"a", {7, 4}, "float32", 4, 0},
                                                          {"b", {3}, "bfloat16", 2, 0}};
  const simulate::Simulation done =
      simulate::simulate_save(tensors, Numbers{2, 2}, Layouts{{kRows, kColumns}}, kUpstream, 0);
  EXPECT_EQ(done.items, 8);
  EXPECT_EQ(total(done), 7 * 4 * 4 + 3 * 2);
  EXPECT_EQ(done.writers, (std::vector<std::uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(done.boxes, (Numbers{0, 0, 4, 2, 0, 2, 4, 2, 4, 0, 3, 2, 4, 2, 3, 2}));
  EXPECT_GT(done.wire_in, 0);
  EXPECT_GT(done.wire_out, 0);
  EXPECT_GT(done.metadata, 0);
  EXPECT_EQ(done.stages.size(), 7);
}

TEST(Simulation, ReplicasAreDroppedAndSpread) {
  std::vector<simulate::SimulatedTensor> tensors;
  for (int at = 0; at < 8; ++at) tensors.push_back({std::to_string(at), {16}, "float32", 4, 0});
  const simulate::Simulation done =
      simulate::simulate_save(tensors, Numbers{4}, Layouts{{kReplicate}}, kUpstream, 0);
  for (const auto& rank : done.ranks) {
    EXPECT_EQ(rank.items, 2);
    EXPECT_EQ(rank.bytes, 2 * 16 * 4);
  }
}

TEST(Simulation, WhatCannotBePlannedIsRefused) {
  const std::vector<simulate::SimulatedTensor> one = {{"a", {4}, "float32", 4, 0}};
  EXPECT_THROW(simulate::simulate_save(one, Numbers{}, Layouts{{}}, kUpstream, 0),
               std::invalid_argument);
  EXPECT_THROW(simulate::simulate_save(one, Numbers{2}, Layouts{{kRows, kRows}}, kUpstream, 0),
               std::invalid_argument);
  EXPECT_THROW(simulate::simulate_save(one, Numbers{2}, Layouts{}, kUpstream, 0),
               std::invalid_argument);
  const std::vector<simulate::SimulatedTensor> negative = {{"a", {-4}, "float32", 4, 0}};
  EXPECT_THROW(simulate::simulate_save(negative, Numbers{2}, Layouts{{kRows}}, kUpstream, 0),
               std::invalid_argument);
  const std::vector<simulate::SimulatedTensor> huge = {{"a", {INT64_MAX, 2}, "float32", 4, 0}};
  EXPECT_THROW(simulate::simulate_save(huge, Numbers{2}, Layouts{{kRows}}, kUpstream, 0),
               std::invalid_argument);
  const std::vector<simulate::SimulatedTensor> twice = {{"a", {4}, "float32", 4, 0},
                                                        {"a", {4}, "float32", 4, 0}};
  EXPECT_THROW(simulate::simulate_save(twice, Numbers{2}, Layouts{{kRows}}, kUpstream, 0),
               std::invalid_argument);
}

}  // namespace
}  // namespace shardplan::testing
