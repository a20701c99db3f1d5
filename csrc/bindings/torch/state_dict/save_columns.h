#pragma once

#include <memory>
#include <optional>

#include "bindings/torch/columns/save_plan.h"

namespace shardplan::bindings {

/// Reads a flat state dict (`default_planner.create_default_local_save_plan`).
///
/// `upstream_items(fqn, object)` gives upstream's write items for what is not read here: tensor
/// subclasses, objects that say themselves how they are written, hooks that a caller replaced.
std::shared_ptr<SavePlanColumns> read_state_dict(const py::object& state_dict,
                                                 const py::object& upstream_items);

/// The upstream write items of one entry (`planner_helpers._create_write_items`), or nothing where
/// upstream has to answer; a DTensor of whose mesh this rank is no part is such a case.
std::optional<py::list> write_items(const py::object& fqn, const py::object& object);

}  // namespace shardplan::bindings
