#pragma once

#include <cstddef>
#include <cstdint>

namespace shardplan::data {

/// Returns the CRC-32 (as in zip, zlib and PNG) of `count` bytes. `before` is the CRC of the bytes
/// that precede them, 0 if there are none.
std::uint32_t crc32(const char* bytes, std::size_t count, std::uint32_t before = 0);

}  // namespace shardplan::data
