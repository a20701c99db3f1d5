#include "core/pickle/encoding.h"

namespace shardplan::pickle {

void append_number(std::string& out, std::int64_t number) {
  std::array<char, kNumberSpace> coded{};
  out.append(coded.data(), encode_number(coded.data(), number));
}

void append_tuple(std::string& out, std::span<const std::int64_t> numbers) {
  encode_tuple(
      numbers, [&](std::uint8_t code) { out.push_back(static_cast<char>(code)); },
      [&](std::int64_t number) { append_number(out, number); });
}

}  // namespace shardplan::pickle
