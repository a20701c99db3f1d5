#include "pickle_mutator.h"

#include <algorithm>
#include <random>
#include <vector>

#include "core/pickle/opcodes.h"

namespace shardplan::fuzz {
namespace {

namespace opcode = pickle::opcode;

std::size_t number_at(std::string_view bytes, std::size_t at, std::size_t count) {
  std::size_t number = 0;
  for (std::size_t byte = std::min(count, bytes.size() - std::min(at, bytes.size())); byte > 0;) {
    number = number << 8 | static_cast<std::uint8_t>(bytes[at + --byte]);
  }
  return number;
}

std::size_t line_at(std::string_view bytes, std::size_t at) {
  const std::size_t end = bytes.find('\n', at);
  return end == std::string_view::npos ? bytes.size() : end + 1;
}

/// Returns the number of bytes of the opcode that `bytes` begin with, with its argument.
std::size_t length_of(std::string_view bytes) {
  switch (static_cast<std::uint8_t>(bytes[0])) {
    case opcode::kProto:
    case opcode::kBinGet:
    case opcode::kBinPut:
    case opcode::kBinInt1:
    case opcode::kExtension1: return 2;
    case opcode::kBinInt2:
    case opcode::kExtension2: return 3;
    case opcode::kBinInt:
    case opcode::kLongBinGet:
    case opcode::kLongBinPut:
    case opcode::kExtension4: return 5;
    case opcode::kBinFloat:
    case opcode::kFrame: return 9;
    case opcode::kLong1:
    case opcode::kShortBinBytes:
    case opcode::kShortBinUnicode: return 2 + number_at(bytes, 1, 1);
    case opcode::kLong4:
    case opcode::kBinBytes:
    case opcode::kBinUnicode: return 5 + number_at(bytes, 1, 4);
    case opcode::kBinBytes8:
    case opcode::kBinUnicode8:
    case opcode::kByteArray8: return 9 + number_at(bytes, 1, 3);
    case opcode::kGlobal: return line_at(bytes, line_at(bytes, 1));
    default: return 1;
  }
}

std::vector<std::string_view> opcodes_of(std::string_view bytes) {
  std::vector<std::string_view> out;
  while (!bytes.empty()) {
    out.push_back(bytes.substr(0, length_of(bytes)));
    bytes.remove_prefix(out.back().size());
  }
  return out;
}

}  // namespace

std::string mutated_pickle(std::string_view pickle, std::string_view other, std::uint32_t seed) {
  std::minstd_rand random(seed);
  const auto below = [&](std::size_t count) { return static_cast<std::size_t>(random()) % count; };
  std::vector<std::string_view> opcodes = opcodes_of(pickle);
  const std::vector<std::string_view> others = opcodes_of(other);
  if (opcodes.empty()) return {};
  std::string changed;
  const auto place = [&](std::size_t at) {
    return opcodes.begin() + static_cast<std::ptrdiff_t>(at);
  };
  const std::size_t at = below(opcodes.size());
  const std::size_t count = 1 + below(std::min<std::size_t>(8, opcodes.size() - at));
  switch (below(others.empty() ? 5 : 7)) {
    case 0: opcodes.erase(place(at), place(at + count)); break;
    case 1: {
      const std::vector<std::string_view> some(place(at), place(at + count));
      opcodes.insert(place(below(opcodes.size())), some.begin(), some.end());
      break;
    }
    case 2: std::swap(opcodes[at], opcodes[below(opcodes.size())]); break;
    case 3: opcodes[at] = opcodes[below(opcodes.size())]; break;
    case 4: {
      changed = opcodes[at];
      for (std::size_t byte = 1; byte < changed.size(); ++byte) {
        if (below(2) == 0) changed[byte] = static_cast<char>(below(256));
      }
      opcodes[at] = changed;
      break;
    }
    default: {
      const std::size_t from = below(others.size());
      const std::size_t taken = 1 + below(others.size() - from);
      opcodes.erase(place(at), place(at + count));
      const auto begin = others.begin() + static_cast<std::ptrdiff_t>(from);
      opcodes.insert(place(at), begin, begin + static_cast<std::ptrdiff_t>(taken));
    }
  }
  std::string out;
  for (const std::string_view one : opcodes) out += one;
  return out;
}

}  // namespace shardplan::fuzz
