#include "core/planning/coordinator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "brute_force.h"
#include "planning/reference_dedup.h"
#include "random_plans.h"

namespace shardplan::testing {
namespace {

/// Plans of one table with one tensor per shape, entry i of name i. Each rank writes some boxes.
class Plans {
 public:
  Plans(const std::vector<Numbers>& shapes, std::size_t ranks) : rows_(ranks) {
    for (const Numbers& shape : shapes) {
      table_.name.push_back(static_cast<std::uint32_t>(table_.name.size()));
      table_.spec.push_back(table_.specs.push(columns::WriteKind::kShard, 0, shape));
    }
  }

  void write(std::size_t rank, std::uint32_t entry, const Box& box) {
    const std::size_t ndim = box.offsets.size();
    std::int64_t* numbers = rows_[rank].push(entry, ndim);
    numbers = std::copy_n(box.offsets.data(), ndim, numbers);
    std::copy_n(box.sizes.data(), ndim, numbers);
  }

  std::vector<columns::RankPlan> ranks() const {
    std::vector<columns::RankPlan> ranks;
    for (const columns::SaveRows& rows : rows_) {
      ranks.push_back({{&table_, &rows}, table_.name, element_sizes_});
    }
    return ranks;
  }

  std::size_t name_count() const { return table_.size(); }

 private:
  columns::SaveTable table_;
  std::vector<columns::SaveRows> rows_;
  std::vector<std::int64_t> element_sizes_{4};
};

TEST(Coordinator, RunsTheStagesInOrder) {
  Random random(1);
  for (int round = 0; round < 300; ++round) {
    const Job job = random_job(random);
    planning::Coordinator coordinator(job.ranks(), job.name_count);
    const auto kept =
        planning::dedup(job.ranks(), job.name_count, planning::Keeper::kFewestBytes, as_given);
    ASSERT_EQ(coordinator.drop_replicas(planning::Keeper::kFewestBytes, as_given),
              kept.has_value());
    std::vector<columns::RankPlan> ranks = job.ranks();
    if (kept) {
      EXPECT_EQ(coordinator.kept(), *kept);
      for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
        ranks[rank].view.chosen = &(*kept)[rank];
      }
    }
    const auto plan = planning::make_global_plan(ranks, job.name_count);
    ASSERT_EQ(coordinator.plan(), plan.has_value());
    if (!plan) continue;
    EXPECT_EQ(coordinator.global().chunk_indices, plan->chunk_indices);
  }
}

TEST(Coordinator, KeepsEveryRowIfTheBytesOfARowAreUnknown) {
  Plans plans({{4}}, 2);
  plans.write(0, 0, {{0}, {4}});
  plans.write(1, 0, {{0}, {4}});
  std::vector<columns::RankPlan> ranks = plans.ranks();
  const std::vector<std::int64_t> unknown{columns::kUnknownElementSize};
  for (columns::RankPlan& rank : ranks) rank.element_size = unknown;
  planning::Coordinator coordinator(ranks, plans.name_count());
  EXPECT_FALSE(coordinator.drop_replicas(planning::Keeper::kFewestBytes, as_given));
  ASSERT_TRUE(coordinator.plan());
  EXPECT_EQ(coordinator.global().chunks.size(), 2);
}

TEST(Coordinator, InvalidEntriesAreThoseThatBruteForceFinds) {
  Random random(2);
  std::size_t invalid = 0;
  for (int round = 0; round < 500; ++round) {
    const std::size_t ranks = 1 + random.index(3);
    std::vector<Layout> layouts;
    std::vector<Numbers> shapes;
    for (int entry = 0; entry < 3; ++entry) {
      layouts.push_back(random_layout(random));
      // Random boxes are mostly invalid, random layouts mostly valid.
      if (random.one_in(3)) {
        layouts.back().boxes = random_boxes(layouts.back().shape.size(), 3, random);
      }
      shapes.push_back(layouts.back().shape);
    }
    Plans plans(shapes, ranks);
    for (std::uint32_t entry = 0; entry < layouts.size(); ++entry) {
      for (const Box& box : layouts[entry].boxes) plans.write(random.index(ranks), entry, box);
    }
    planning::Coordinator coordinator(plans.ranks(), plans.name_count());
    ASSERT_TRUE(coordinator.plan());
    const std::vector<std::uint32_t> found = coordinator.invalid_entries();
    for (std::uint32_t at = 0; at < coordinator.global().entries.size(); ++at) {
      const Layout& layout = layouts[coordinator.global().entries[at].name];
      const bool valid = layout.shape.empty() ||
                         first_fault(layout.shape, layout.boxes, ranks > 1) == boxes::Fault::kNone;
      EXPECT_EQ(std::ranges::binary_search(found, at), !valid);
    }
    invalid += found.size();
  }
  EXPECT_GT(invalid, 100);
}

}  // namespace
}  // namespace shardplan::testing
