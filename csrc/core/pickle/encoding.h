#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "core/pickle/opcodes.h"

namespace shardplan::pickle {

/// Number of bytes that `encode_number` may write.
inline constexpr std::size_t kNumberSpace = 10;

/// Writes the opcodes that push an int at `out`, which has room for kNumberSpace bytes. They are
/// those of Python's pickle in protocols 2 to 5. Returns their end.
inline char* encode_number(char* out, std::int64_t number) {
  auto bits = static_cast<std::uint64_t>(number);
  std::uint8_t opcode = opcode::kBinInt;
  std::size_t bytes = 4;
  if (bits < 0x100) {
    opcode = opcode::kBinInt1;
    bytes = 1;
  } else if (bits < 0x10000) {
    opcode = opcode::kBinInt2;
    bytes = 2;
  } else if (number < std::numeric_limits<std::int32_t>::min() ||
             number > std::numeric_limits<std::int32_t>::max()) {
    // As few bytes of two's complement as keep the sign.
    const std::uint64_t magnitude = number < 0 ? ~bits : bits;
    bytes = static_cast<std::size_t>(std::bit_width(magnitude)) / 8 + 1;
    opcode = opcode::kLong1;
  }
  *out++ = static_cast<char>(opcode);
  if (opcode == opcode::kLong1) *out++ = static_cast<char>(bytes);
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(out, &bits, sizeof(bits));
  } else {
    for (std::size_t at = 0; at < bytes; ++at, bits >>= 8) out[at] = static_cast<char>(bits);
  }
  return out + bytes;
}

/// Appends the opcodes that push an int.
void append_number(std::string& out, std::int64_t number);

/// Appends the opcodes that push a tuple of ints.
void append_tuple(std::string& out, std::span<const std::int64_t> numbers);

/// Number of items of the largest tuple that has an opcode of its own.
inline constexpr std::size_t kMaxSmallTuple = 3;

/// Opcodes that end a tuple of 0 to kMaxSmallTuple items. Only larger ones begin with a mark.
inline constexpr std::array<std::uint8_t, kMaxSmallTuple + 1> kSmallTuples = {
    opcode::kEmptyTuple, opcode::kTuple1, opcode::kTuple2, opcode::kTuple3};

}  // namespace shardplan::pickle
