#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "bindings/torch/columns/save_plan.h"
#include "core/columns/rank_plan.h"

namespace shardplan::bindings {

/// Numbers the names in the plans of all ranks; equal names have equal numbers. Tables that ranks
/// share are numbered once.
class NameNumbers {
 public:
  /// Returns the number of the name of each entry of a table.
  std::shared_ptr<const std::vector<std::uint32_t>> of_entries(
      const std::shared_ptr<const PlanTable>& table);

  std::size_t size() const { return numbers_.size(); }

 private:
  py::dict numbers_;
  std::map<std::shared_ptr<const PlanTable>, std::shared_ptr<const std::vector<std::uint32_t>>>
      by_table_;
};

/// The save plans of all ranks, as the coordinator takes them. Columns that one stage has made
/// carry their name numbers to the next stage.
class RankPlans {
 public:
  /// Reads the plans' lists of items. Returns false if upstream has to answer. Throws ValueError,
  /// naming the rank, if a received plan is unreadable.
  bool read(const py::list& items_of_ranks);

  /// The plans for a coordinator; they point into this object.
  std::vector<columns::RankPlan> ranks() const;

  std::vector<SavePlanColumns> plans;
  std::vector<std::shared_ptr<const std::vector<std::uint32_t>>> name_of_entry;  // one per plan
  std::shared_ptr<NameNumbers> names;

 private:
  bool add(const py::object& items);
};

}  // namespace shardplan::bindings
