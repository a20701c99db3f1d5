#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "bindings/torch/state_dict/load_columns.h"

namespace shardplan::bindings {

/// A load plan as it travels.
struct PackedLoadPlan {
  py::bytes bytes;
  py::list objects;  // items that travel as objects, in the order of their rows
};

/// A load plan as it was received from another rank: decoded once, when it is first needed, and
/// sent on as the bytes that were received.
class ReceivedLoadPlan {
 public:
  /// Never throws for what the bytes hold: that is said at first use.
  ReceivedLoadPlan(py::bytes bytes, py::object objects);

  /// Number of items; 1 where the bytes are broken, so that nobody takes the plan for an empty one.
  std::size_t size() const { return problem_.empty() ? items_ : 1; }

  /// The columns. Throws UnreadablePlan where the bytes are broken.
  const LoadPlanColumns& columns();
  /// The upstream items. Throws as `columns`.
  py::list items() { return columns().items(); }

  py::object bytes() const { return bytes_; }
  py::object objects() const { return objects_; }

 private:
  py::bytes bytes_;
  py::object objects_;
  std::size_t items_ = 0;
  std::string problem_;
  std::optional<LoadPlanColumns> columns_;
};

/// The columns of a load plan's items, which stay as they are.
LoadPlanColumns load_columns_of(const py::object& items);

/// Packs a plan's items. Nothing where the plan has to travel as an upstream one.
std::optional<PackedLoadPlan> pack_load_plan(const py::object& items);

}  // namespace shardplan::bindings
