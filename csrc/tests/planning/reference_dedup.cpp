#include "planning/reference_dedup.h"

#include <algorithm>
#include <functional>
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

/// Bytes of the box of a row; at least 1.
std::int64_t box_size(const columns::RankPlan& plan, std::size_t position) {
  const columns::SavePlanView& view = plan.view;
  if (view.kind(position) == columns::WriteKind::kBytes) return 1;
  std::int64_t bytes = plan.element_size[view.table->specs.properties[view.spec(position)]];
  if (plan.counted != nullptr && (*plan.counted)[view.row(position)] != columns::kBytesOfTensor) {
    std::int64_t elements = 1;
    for (const std::int64_t size : view.shape(position)) elements *= size;
    bytes = elements > 0 ? (*plan.counted)[view.row(position)] / elements : 0;
  }
  const std::size_t ndim = view.ndim(position);
  for (std::size_t dim = 0; dim < ndim; ++dim) bytes *= view.numbers(position)[ndim + dim];
  return std::max<std::int64_t>(bytes, 1);
}

/// The rows of each plan whose index it still has.
Kept rows_of(std::span<const columns::RankPlan> plans,
             const std::vector<std::set<Index>>& indices_of) {
  Kept kept(plans.size());
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    for (std::size_t position = 0; position < plans[rank].view.size(); ++position) {
      if (!indices_of[rank].contains(index_of(plans[rank], position))) continue;
      kept[rank].push_back(static_cast<std::uint32_t>(plans[rank].view.row(position)));
    }
  }
  return kept;
}

}  // namespace

std::vector<std::uint32_t> as_given(std::span<const std::uint32_t> ranks) {
  return {ranks.begin(), ranks.end()};
}

std::vector<std::uint32_t> reversed(std::span<const std::uint32_t> ranks) {
  return {ranks.rbegin(), ranks.rend()};
}

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
  return rows_of(plans, indices_of);
}

Kept balanced_dedup(std::span<const columns::RankPlan> plans) {
  struct Chunk {
    std::int64_t bytes;
    std::set<std::uint32_t> ranks;
  };
  std::vector<Index> met;
  std::map<Index, Chunk> chunks;
  for (std::uint32_t rank = 0; rank < plans.size(); ++rank) {
    for (std::size_t position = 0; position < plans[rank].view.size(); ++position) {
      const Index index = index_of(plans[rank], position);
      const auto [chunk, is_new] = chunks.try_emplace(index, box_size(plans[rank], position));
      if (is_new) met.push_back(index);
      chunk->second.ranks.insert(rank);
    }
  }
  std::ranges::stable_sort(met, std::greater<>(),
                           [&](const Index& index) { return chunks.at(index).bytes; });
  std::vector<std::int64_t> written(plans.size());
  std::vector<std::set<Index>> indices_of(plans.size());
  for (const bool is_shared : {false, true}) {
    for (const Index& index : met) {
      const Chunk& chunk = chunks.at(index);
      if ((chunk.ranks.size() > 1) != is_shared) continue;
      const std::uint32_t writer = *std::ranges::min_element(
          chunk.ranks, {}, [&](std::uint32_t rank) { return written[rank]; });
      written[writer] += chunk.bytes;
      indices_of[writer].insert(index);
    }
  }
  return rows_of(plans, indices_of);
}

}  // namespace shardplan::testing
