#pragma once

#include <algorithm>
#include <cstddef>

namespace shardplan::bindings {

/// Returns the size in bytes of each of the two buffers of a thread: a multiple of a page, from
/// 64 KiB to 4 MiB, so that the buffers of all threads take `memory` bytes if they can.
inline std::size_t staging_buffer_size(std::size_t memory, std::size_t threads) {
  constexpr std::size_t kPage = 4096;
  return std::clamp(memory / threads / 2 / kPage * kPage, std::size_t{1} << 16,
                    std::size_t{4} << 20);
}

}  // namespace shardplan::bindings
