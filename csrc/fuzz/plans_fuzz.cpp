// Plans a save as the coordinator does. The rows that each rank keeps are those of the reference
// (upstream's algorithm, or the balanced one), and the entries that are invalid are those that
// brute force finds.

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "brute_force.h"
#include "core/planning/coordinator.h"
#include "fuzz_input.h"
#include "planning/reference_dedup.h"
#include "random_plans.h"

namespace shardplan::fuzz {
namespace {

using planning::Keeper;
using testing::Random;

/// Returns the boxes of an entry, or nothing if one has another number of dims than `ndim`.
std::optional<testing::BoxList> boxes_of(const planning::Coordinator& coordinator,
                                         const planning::SavedEntry& entry, std::size_t ndim) {
  testing::BoxList boxes;
  for (std::size_t at = entry.begin; at < entry.end; ++at) {
    const planning::RowOfPlan row = coordinator.global().chunks[at];
    const columns::SavePlanView& view = coordinator.plans()[row.plan].view;
    if (view.ndim(row.position) != ndim) return std::nullopt;
    const std::int64_t* numbers = view.numbers(row.position);
    boxes.push_back({{numbers, numbers + ndim}, {numbers + ndim, numbers + 2 * ndim}});
  }
  return boxes;
}

void check_entries(const planning::Coordinator& coordinator) {
  const std::vector<std::uint32_t> invalid = coordinator.invalid_entries();
  expect(std::ranges::is_sorted(invalid), "invalid entries are not in order");
  for (std::uint32_t at = 0; at < coordinator.global().entries.size(); ++at) {
    const planning::SavedEntry& entry = coordinator.global().entries[at];
    bool is_valid = true;
    if (!entry.bytes) {
      const auto shape = coordinator.plans()[entry.first.plan].view.shape(entry.first.position);
      const auto boxes = boxes_of(coordinator, entry, shape.size());
      is_valid =
          shape.empty() ||
          (boxes && testing::first_fault({shape.begin(), shape.end()}, *boxes,
                                         coordinator.plans().size() > 1) == boxes::Fault::kNone);
    }
    expect(std::ranges::binary_search(invalid, at) != is_valid,
           "an invalid entry differs from brute force");
  }
}

void run(Input input) {
  const std::uint8_t choice = input.byte();
  Random random(input.rest());
  const testing::Job job = testing::random_job(random);
  const std::vector<columns::RankPlan> ranks = job.ranks();
  constexpr std::array kKeepers = {Keeper::kLowestRank, Keeper::kFewestBytes, Keeper::kBalanced};
  const Keeper keeper = kKeepers[choice % kKeepers.size()];
  const planning::SetOrder set_order = choice / 4 % 2 == 0 ? testing::as_given : testing::reversed;
  const testing::Kept expected =
      keeper == Keeper::kBalanced
          ? testing::balanced_dedup(ranks)
          : testing::upstream_dedup(ranks, keeper == Keeper::kLowestRank, set_order);
  planning::Coordinator coordinator(ranks, job.name_count);
  expect(coordinator.drop_replicas(keeper, set_order), "no row is dropped");
  expect(coordinator.kept() == expected, "other rows are kept than by the reference");
  if (coordinator.plan()) check_entries(coordinator);
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
