#pragma once

#include <cstddef>
#include <cstdint>

namespace shardplan::data {

/// The CRC-32 of zip, zlib and PNG, goes on from that of the bytes before; that of none is 0.
std::uint32_t crc32(const char* bytes, std::size_t count, std::uint32_t before = 0);

}  // namespace shardplan::data
