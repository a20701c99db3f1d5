#include "core/pickle/encoding.h"

#include <cstddef>
#include <iterator>
#include <limits>

#include "core/pickle/opcodes.h"
#include "core/util/little_endian.h"

namespace shardplan::pickle {
namespace {

void append_opcode(std::string& out, std::uint8_t opcode) {
  out.push_back(static_cast<char>(opcode));
}

}  // namespace

void append_number(std::string& out, std::int64_t number) {
  const auto bits = static_cast<std::uint64_t>(number);
  if (bits < 0x100) {
    append_opcode(out, opcode::kBinInt1);
    util::append_little_endian(out, bits, 1);
  } else if (bits < 0x10000) {
    append_opcode(out, opcode::kBinInt2);
    util::append_little_endian(out, bits, 2);
  } else if (number >= std::numeric_limits<std::int32_t>::min() &&
             number <= std::numeric_limits<std::int32_t>::max()) {
    append_opcode(out, opcode::kBinInt);
    util::append_little_endian(out, bits, 4);
  } else {
    // As few bytes of two's complement as keep the sign.
    std::size_t bytes = 8;
    while (number << (64 - 8 * (bytes - 1)) >> (64 - 8 * (bytes - 1)) == number) --bytes;
    append_opcode(out, opcode::kLong1);
    util::append_little_endian(out, bytes, 1);
    util::append_little_endian(out, bits, bytes);
  }
}

void append_tuple(std::string& out, std::span<const std::int64_t> numbers) {
  constexpr std::uint8_t kSmall[] = {opcode::kEmptyTuple, opcode::kTuple1, opcode::kTuple2,
                                     opcode::kTuple3};
  const bool small = numbers.size() < std::size(kSmall);
  if (!small) append_opcode(out, opcode::kMark);
  for (const std::int64_t number : numbers) append_number(out, number);
  append_opcode(out, small ? kSmall[numbers.size()] : opcode::kTuple);
}

}  // namespace shardplan::pickle
