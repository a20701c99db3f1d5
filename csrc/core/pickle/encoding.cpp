#include "core/pickle/encoding.h"

namespace shardplan::pickle {

void append_number(std::string& out, std::int64_t number) {
  std::array<char, kNumberSpace> coded{};
  out.append(coded.data(), encode_number(coded.data(), number));
}

void append_tuple(std::string& out, std::span<const std::int64_t> numbers) {
  const bool small = numbers.size() <= kMaxSmallTuple;
  if (!small) out.push_back(static_cast<char>(opcode::kMark));
  for (const std::int64_t number : numbers) append_number(out, number);
  out.push_back(static_cast<char>(small ? kSmallTuples[numbers.size()] : opcode::kTuple));
}

}  // namespace shardplan::pickle
