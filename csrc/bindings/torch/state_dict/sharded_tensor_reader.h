#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {

/// The fields of a ShardedTensor that planning needs: its size and the boxes of its local shards.
struct ShardedTensorReading {
  std::vector<std::int64_t> shape;
  std::size_t shard_count = 0;
  std::vector<std::int64_t> offsets;  // shard_count * ndim
  std::vector<std::int64_t> sizes;    // shard_count * ndim
  PropertyValues properties;

  const std::int64_t* shard_offsets(std::size_t shard) const {
    return offsets.data() + shard * shape.size();
  }
  const std::int64_t* shard_sizes(std::size_t shard) const {
    return sizes.data() + shard * shape.size();
  }
};

/// Reads the local shards of an object of exactly class ShardedTensor. Returns nothing if upstream
/// has to answer, because a number is not an int or the numbers of dims differ.
std::optional<ShardedTensorReading> read_sharded_tensor(PyObject* object);

}  // namespace shardplan::bindings
