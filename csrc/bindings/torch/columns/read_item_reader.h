#pragma once

#include "bindings/torch/state_dict/load_columns.h"

namespace shardplan::bindings {

/// Reads a list of ReadItems. An item of exactly the upstream classes, without extra attributes,
/// becomes a row; any other item becomes an object row.
LoadPlanColumns read_read_items(const py::object& list);

}  // namespace shardplan::bindings
