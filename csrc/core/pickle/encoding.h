#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "core/pickle/opcodes.h"
#include "core/util/little_endian.h"

namespace shardplan::pickle {

/// Number of bytes that `encode_number` may write.
inline constexpr std::size_t kNumberSpace = 10;

/// Writes the opcodes that push an int at `out`, which has room for kNumberSpace bytes. They are
/// those of Python's pickle in protocols 2 to 5. Returns their end.
inline char* encode_number(char* out, std::int64_t number) {
  const auto bits = static_cast<std::uint64_t>(number);
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
  util::store_little_endian(out, bits, sizeof(bits));  // one store; what follows is free
  return out + bytes;
}

/// Encodes a tuple of ints: calls `code(opcode)` and `push(int)` for its parts, in order.
template <typename Code, typename Push>
void encode_tuple(std::span<const std::int64_t> numbers, Code&& code, Push&& push) {
  constexpr std::array kSmall = {opcode::kEmptyTuple, opcode::kTuple1, opcode::kTuple2,
                                 opcode::kTuple3};
  const bool is_small = numbers.size() < kSmall.size();
  if (!is_small) code(opcode::kMark);
  for (const std::int64_t number : numbers) push(number);
  code(is_small ? kSmall[numbers.size()] : opcode::kTuple);
}

/// Appends the opcodes that push an int.
void append_number(std::string& out, std::int64_t number);

/// Appends the opcodes that push a tuple of ints.
void append_tuple(std::string& out, std::span<const std::int64_t> numbers);

}  // namespace shardplan::pickle
