#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {

/// What planning needs of a ShardedTensor: the tensor's size and the boxes of some of its shards.
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

/// Reads an object of exactly class ShardedTensor: its local shards. Nothing where it is not as
/// upstream makes them (numbers that are no ints, dims that differ): ask upstream then.
std::optional<ShardedTensorReading> read_sharded_tensor(PyObject* object);

}  // namespace shardplan::bindings
