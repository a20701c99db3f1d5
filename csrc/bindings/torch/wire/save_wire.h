#pragma once

#include <memory>
#include <optional>

#include "bindings/torch/columns/save_plan.h"
#include "bindings/torch/wire/received_bytes.h"

namespace shardplan::bindings {

/// A save plan that was received from another rank; decoded when it is first used.
class ReceivedSavePlan : public ReceivedBytes {
 public:
  /// bytes, objects: those of a PackedSavePlan
  ReceivedSavePlan(py::bytes bytes, py::object objects);

  /// These throw UnreadablePlan if the bytes are broken.
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
  [[noreturn]] void fail() const;

  py::object objects_;
  std::shared_ptr<SavePlanColumns> columns_;
  /// The received table. `columns_` has another one if it has items of callers.
  std::shared_ptr<const PlanTable> table_;
};

/// An encoded save plan.
struct PackedSavePlan {
  py::bytes bytes;
  py::list objects;     // the items of object rows, in the order of the rows
  bool mapped = false;  // whether the bytes hold the mappings
};

/// Encodes a plan's items. Returns nothing if the plan has to be sent as upstream's objects.
///
/// mappings:  the plan's `planner_data`; it is encoded if it is a dict of paths
/// mapped_by: the received plan whose mappings `planner_data` still is, or null
std::optional<PackedSavePlan> pack_save_plan(const py::object& items, const py::object& mappings,
                                             ReceivedSavePlan* mapped_by);

}  // namespace shardplan::bindings
