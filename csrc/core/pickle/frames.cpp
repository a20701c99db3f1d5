#include "core/pickle/frames.h"

#include "core/pickle/input.h"
#include "core/pickle/opcodes.h"

namespace shardplan::pickle {
namespace {

/// Argument of an opcode.
struct Arguments {
  std::size_t fixed;  // number of fixed bytes after the opcode
  bool counts;        // if true, the fixed bytes are the length of the bytes that follow
};

Arguments arguments_of(std::uint8_t code) {
  switch (code) {
    case opcode::kBinInt1:
    case opcode::kBinGet:
    case opcode::kBinPut:
    case opcode::kExtension1:
    case opcode::kProto: return {1, false};
    case opcode::kExtension2:
    case opcode::kBinInt2: return {2, false};
    case opcode::kExtension4:
    case opcode::kBinInt:
    case opcode::kLongBinGet:
    case opcode::kLongBinPut: return {4, false};
    case opcode::kBinFloat:
    case opcode::kFrame: return {8, false};
    case opcode::kShortBinUnicode:
    case opcode::kShortBinBytes:
    case opcode::kLong1: return {1, true};
    case opcode::kBinUnicode:
    case opcode::kBinBytes:
    case opcode::kLong4: return {4, true};
    case opcode::kBinUnicode8:
    case opcode::kBinBytes8:
    case opcode::kByteArray8: return {8, true};
    default: return {0, false};
  }
}

/// Returns the length of the opcode at `at`, with its argument.
std::size_t length_of(std::string_view pickle, std::size_t at) {
  const Arguments arguments = arguments_of(static_cast<std::uint8_t>(pickle[at]));
  std::uint64_t length = 1 + arguments.fixed;
  if (length > pickle.size() - at) throw BadPickle("is truncated");
  if (arguments.counts) {
    std::uint64_t counted = 0;
    for (std::size_t i = arguments.fixed; i > 0; --i) {
      counted = counted << 8 | static_cast<std::uint8_t>(pickle[at + i]);
    }
    if (counted > pickle.size() - at - length) throw BadPickle("is truncated");
    length += counted;
  }
  return static_cast<std::size_t>(length);
}

}  // namespace

std::string without_frames(std::string_view pickle) {
  std::string opcodes;
  std::size_t at = 0;
  while (at < pickle.size() && static_cast<std::uint8_t>(pickle[at]) != opcode::kStop) {
    const auto code = static_cast<std::uint8_t>(pickle[at]);
    // GLOBAL has two lines as arguments. Protocol 4 uses STACK_GLOBAL.
    if (code == opcode::kGlobal)
      throw BadPickle("has opcode GLOBAL, which protocol 4 does not use");
    const std::size_t length = length_of(pickle, at);
    if (code != opcode::kFrame && code != opcode::kProto) opcodes += pickle.substr(at, length);
    at += length;
  }
  if (at + 1 != pickle.size()) throw BadPickle("does not end with opcode STOP");
  return opcodes;
}

}  // namespace shardplan::pickle
