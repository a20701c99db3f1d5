#pragma once

#include "bindings/torch/state_dict/load_columns.h"

namespace shardplan::bindings {

/// The columns of a list of ReadItems. An item of exactly the upstream classes, with no attribute
/// more, becomes a row that says all of it; any other stays an object.
LoadPlanColumns read_read_items(const py::object& list);

}  // namespace shardplan::bindings
