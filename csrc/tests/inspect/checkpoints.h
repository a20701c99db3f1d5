#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "core/inspect/checkpoint.h"
#include "upstream_metadata.h"

namespace shardplan::testing {

inline inspect::Checkpoint checkpoint_of(std::string_view bytes) {
  return inspect::Checkpoint([bytes](char* into, std::size_t at_most) mutable {
    const std::size_t count = std::min(at_most, bytes.size());
    std::memcpy(into, bytes.data(), count);
    bytes.remove_prefix(count);
    return count;
  });
}

/// Returns the upstream pickle with offsets [0, 0] for the second chunk of "a.b", in place of
/// [2, 0].
inline std::string with_second_chunk_at_0(int protocol) {
  std::string pickle(upstream_pickle(protocol));
  pickle[pickle.find("K\2K") + 1] = 0;
  return pickle;
}

}  // namespace shardplan::testing
