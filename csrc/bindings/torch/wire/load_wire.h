#pragma once

#include <optional>

#include "bindings/torch/state_dict/load_columns.h"
#include "bindings/torch/wire/received_bytes.h"

namespace shardplan::bindings {

/// An encoded load plan.
struct PackedLoadPlan {
  py::bytes bytes;
  py::list objects;  // the items of object rows, in the order of the rows
};

/// A load plan that was received from another rank; decoded once, when it is first used, and sent
/// on as the bytes that were received.
class ReceivedLoadPlan : public ReceivedBytes {
 public:
  /// bytes, objects: those of a PackedLoadPlan
  ReceivedLoadPlan(py::bytes bytes, py::object objects);

  /// These throw UnreadablePlan if the bytes are broken.
  const LoadPlanColumns& columns();
  py::list items() { return columns().items(); }

  const py::object& objects() const { return objects_; }

 private:
  py::object objects_;
  std::optional<LoadPlanColumns> columns_;
};

/// Returns the columns of a load plan's items; the list is not materialized.
LoadPlanColumns load_columns_of(const py::object& items);

/// Encodes a plan's items. Returns nothing if the plan has to be sent as upstream's objects.
std::optional<PackedLoadPlan> pack_load_plan(const py::object& items);

}  // namespace shardplan::bindings
