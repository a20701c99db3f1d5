#pragma once

#include <memory>
#include <optional>

#include "bindings/torch/columns/save_plan.h"

namespace shardplan::bindings {

/// Plans the save of a flat state dict (`default_planner.create_default_local_save_plan`).
///
/// An object that has `__create_write_items__` creates its items itself.
///
/// upstream_items(fqn, object): creates the items of unreadable entries, such as tensor subclasses
std::shared_ptr<SavePlanColumns> read_state_dict(const py::object& state_dict,
                                                 const py::object& upstream_items);

/// Returns the write items of one entry (`planner_helpers._create_write_items`), or nothing if
/// upstream has to answer, for instance for a DTensor whose mesh does not contain this rank.
std::optional<py::list> write_items(const py::object& fqn, const py::object& object);

}  // namespace shardplan::bindings
