#pragma once

#include <optional>

#include "bindings/torch/state_dict/local_shards.h"
#include "bindings/torch/upstream/item_maker.h"

namespace shardplan::bindings {

/// The fields of a ShardedTensor that planning needs.
struct ShardedTensorReading : LocalShards {
  PropertyValues properties;
};

/// Reads the local shards of an object of exactly class ShardedTensor. Returns nothing if upstream
/// has to answer, because a number is not an int or the numbers of dims differ.
std::optional<ShardedTensorReading> read_sharded_tensor(PyObject* object);

}  // namespace shardplan::bindings
