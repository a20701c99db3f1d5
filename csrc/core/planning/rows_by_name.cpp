#include "core/planning/rows_by_name.h"

namespace shardplan::planning {

RowsByName::RowsByName(std::span<const columns::RankPlan> plans, std::size_t name_count,
                       const util::Pulse& pulse)
    : begin_(name_count + 1) {
  for (const columns::RankPlan& plan : plans) {
    for (std::size_t position = 0; position < plan.view.size(); ++position) {
      pulse.beat();
      ++begin_[plan.name(position) + 1];
    }
  }
  for (std::size_t name = 0; name < name_count; ++name) begin_[name + 1] += begin_[name];
  rows_.resize(begin_.back());
  std::vector<std::size_t> next = begins();
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    for (std::size_t position = 0; position < plans[rank].view.size(); ++position) {
      pulse.beat();
      rows_[next[plans[rank].name(position)]++] = {static_cast<std::uint32_t>(rank),
                                                   static_cast<std::uint32_t>(position)};
    }
  }
}

}  // namespace shardplan::planning
