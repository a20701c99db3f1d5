#pragma once

#include <optional>

#include "bindings/common/python_object.h"
#include "bindings/torch/state_dict/local_shards.h"

namespace shardplan::bindings {

/// Reads a torch.Tensor or Parameter that has the fields of a CheckpointableTensor (torch 2.14):
/// a local tensor that holds shards of a global tensor.
///
/// Returns nothing for any other object, if the installed torch does not know these fields, and if
/// upstream has to answer: it raises an error for shards that are outside of a tensor.
std::optional<LocalShards> read_checkpointable_tensor(PyObject* object);

}  // namespace shardplan::bindings
