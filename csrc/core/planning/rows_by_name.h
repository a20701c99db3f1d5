#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/columns/rank_plan.h"
#include "core/util/pulse.h"

namespace shardplan::planning {

/// A row of one of many plans.
struct RowOfPlan {
  std::uint32_t plan;
  std::uint32_t position;  // in the view of the plan
};

/// The rows of many plans, grouped by name; within a name, ordered by plan and position.
class RowsByName {
 public:
  RowsByName(std::span<const columns::RankPlan> plans, std::size_t name_count,
             const util::Pulse& pulse = {});

  std::size_t size() const { return rows_.size(); }
  std::size_t name_count() const { return begin_.size() - 1; }
  std::size_t begin(std::size_t name) const { return begin_[name]; }
  std::size_t end(std::size_t name) const { return begin_[name + 1]; }
  /// Returns, per name, the index of its first row.
  std::vector<std::size_t> begins() const { return {begin_.begin(), begin_.end() - 1}; }
  RowOfPlan operator[](std::size_t at) const { return rows_[at]; }

 private:
  std::vector<std::size_t> begin_;
  std::vector<RowOfPlan> rows_;
};

}  // namespace shardplan::planning
