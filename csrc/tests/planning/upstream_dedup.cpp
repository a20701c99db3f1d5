#include "planning/upstream_dedup.h"

#include <map>
#include <optional>
#include <set>

#include "brute_force.h"

namespace shardplan::testing {
namespace {

/// Fields of `MetadataIndex` that are compared: the name, and the offset (none for bytes).
struct Index {
  std::uint32_t name;
  std::optional<Numbers> offset;

  auto operator<=>(const Index&) const = default;
};

Index index_of(const columns::RankPlan& plan, std::size_t position) {
  const columns::SavePlanView& view = plan.view;
  Index index{plan.name(position), std::nullopt};
  if (view.kind(position) != columns::WriteKind::kBytes) {
    const std::int64_t* offsets = view.numbers(position);
    index.offset.emplace(offsets, offsets + view.ndim(position));
  }
  return index;
}

/// `WriteItem.tensor_storage_size() or 1`
std::int64_t storage_size(const columns::RankPlan& plan, std::size_t position) {
  const columns::SavePlanView& view = plan.view;
  std::int64_t bytes = 0;
  if (view.kind(position) != columns::WriteKind::kBytes) {
    bytes = plan.element_size[view.table->specs.properties[view.spec(position)]];
    for (const std::int64_t size : view.shape(position)) bytes *= size;
  }
  if (plan.counted != nullptr && (*plan.counted)[view.row(position)] != columns::kBytesOfTensor) {
    bytes = (*plan.counted)[view.row(position)];
  }
  return bytes != 0 ? bytes : 1;
}

}  // namespace

Kept upstream_dedup(std::span<const columns::RankPlan> plans, bool save_to_lowest_rank,
                    const planning::SetOrder& set_order) {
  std::vector<Index> met;  // keys in insertion order, as in a dict
  std::map<Index, std::set<std::uint32_t>> plan_indices;
  std::map<Index, std::int64_t> size_of_last;
  std::vector<std::set<Index>> indices_of(plans.size());
  for (std::uint32_t rank = 0; rank < plans.size(); ++rank) {
    for (std::size_t position = 0; position < plans[rank].view.size(); ++position) {
      const Index index = index_of(plans[rank], position);
      if (!plan_indices.contains(index)) met.push_back(index);
      plan_indices[index].insert(rank);
      size_of_last[index] = storage_size(plans[rank], position);
      indices_of[rank].insert(index);
    }
  }
  std::vector<std::int64_t> plan_to_size(plans.size());
  for (const Index& index : met) {
    const std::set<std::uint32_t>& set = plan_indices[index];
    std::uint32_t selected = *set.begin();
    if (!save_to_lowest_rank) {
      const std::vector<std::uint32_t> order =
          set_order(std::vector<std::uint32_t>(set.begin(), set.end()));
      selected = order.front();
      for (const std::uint32_t rank : order) {
        if (plan_to_size[rank] < plan_to_size[selected]) selected = rank;
      }
    }
    plan_to_size[selected] += size_of_last[index];
    for (const std::uint32_t rank : set) {
      if (rank != selected) indices_of[rank].erase(index);
    }
  }
  Kept kept(plans.size());
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    for (std::size_t position = 0; position < plans[rank].view.size(); ++position) {
      if (!indices_of[rank].contains(index_of(plans[rank], position))) continue;
      kept[rank].push_back(static_cast<std::uint32_t>(plans[rank].view.row(position)));
    }
  }
  return kept;
}

}  // namespace shardplan::testing
