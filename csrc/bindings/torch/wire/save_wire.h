#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "bindings/torch/columns/save_plan.h"
#include "core/wire/envelope.h"

namespace shardplan::bindings {

/// A save plan as it arrived from another rank; decoded when it is first needed.
class ReceivedSavePlan {
 public:
  /// bytes: what `pack_save_plan` gave; foreign: its list of items
  /// Never throws for what the bytes hold: that is said at first use.
  ReceivedSavePlan(py::bytes bytes, py::object objects);

  /// Number of items; 1 where the bytes are broken, so that nobody takes the plan for an empty one.
  std::size_t size() const { return problem_.empty() ? items_ : 1; }

  /// Each throws ValueError where the bytes are broken.
  std::shared_ptr<SavePlanColumns> columns() {
    decode();
    return columns_;
  }
  std::shared_ptr<const PlanTable> table() {
    decode();
    return table_;
  }
  py::list items() { return columns()->items(); }
  py::dict mappings();

 private:
  void decode();
  void decode(const wire::Envelope& contents);
  [[noreturn]] void refuse() const;

  py::bytes bytes_;
  py::object objects_;
  std::size_t items_ = 0;
  std::string problem_;
  std::shared_ptr<SavePlanColumns> columns_;
  std::shared_ptr<const PlanTable> table_;  // as it arrived
};

/// A plan as it travels.
struct PackedSavePlan {
  py::bytes bytes;
  py::list objects;     // items that travel as objects, in the order of their rows
  bool mapped = false;  // whether the mappings are in the bytes
};

/// Packs a plan's items. `mappings` is its planner_data, which travels along where it is a dict of
/// paths; where nobody has touched it since it arrived, `mapped_by` is what it arrived with.
/// Nothing where the plan has to travel as an upstream one.
std::optional<PackedSavePlan> pack_save_plan(const py::object& items, const py::object& mappings,
                                             ReceivedSavePlan* mapped_by);

}  // namespace shardplan::bindings
