#pragma once

#include <utility>

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

/// Flattens nested mappings and lists, as `flatten_state_dict` of
/// torch.distributed.checkpoint._nested_dict does.
///
/// state_dict: has `items()`
///
/// Returns the values by their names, and the path of each name. Throws ValueError if two values
/// have the same name.
std::pair<py::dict, py::dict> flatten_state_dict(const py::object& state_dict);

/// Copies the mappings and lists of a state dict, as `_flatten_sharded_tensors` of
/// torch.distributed.checkpoint._sharded_tensor_utils does. Tensors are not copied.
///
/// Returns None if only upstream's function can: a ShardedTensor is nested in another one, or
/// values have the same path.
py::object copy_state_dict(const py::object& state_dict);

}  // namespace shardplan::bindings
