#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shardplan::bindings {

/// The shape of a global tensor, and the boxes of the shards that this rank has.
struct LocalShards {
  std::vector<std::int64_t> shape;
  std::size_t shard_count = 0;
  std::vector<std::int64_t> offsets;  // shard_count * ndim
  std::vector<std::int64_t> sizes;    // shard_count * ndim

  const std::int64_t* shard_offsets(std::size_t shard) const {
    return offsets.data() + shard * shape.size();
  }
  const std::int64_t* shard_sizes(std::size_t shard) const {
    return sizes.data() + shard * shape.size();
  }
};

}  // namespace shardplan::bindings
