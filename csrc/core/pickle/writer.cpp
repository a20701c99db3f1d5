#include "core/pickle/writer.h"

#include <limits>
#include <utility>

#include "core/pickle/opcodes.h"

namespace shardplan::pickle {
namespace {

void append(std::string& to, std::uint64_t number, std::size_t bytes) {
  char coded[8];
  for (std::size_t i = 0; i < bytes; ++i) coded[i] = static_cast<char>(number >> (8 * i));
  to.append(coded, bytes);
}

}  // namespace

Writer::Writer(Sink sink) : sink_(std::move(sink)) {
  block_ = {static_cast<char>(opcode::kProto), 4};
}

void Writer::get(std::uint32_t memo) {
  if (memo < 0x100) {
    code(opcode::kBinGet);
    append(frame_, memo, 1);
  } else {
    code(opcode::kLongBinGet);
    append(frame_, memo, 4);
  }
}

void Writer::text(std::string_view text) {
  if (text.size() < 0x100) {
    code(opcode::kShortBinUnicode);
    append(frame_, text.size(), 1);
  } else {
    code(opcode::kBinUnicode8);
    append(frame_, text.size(), 8);
  }
  raw(text);
}

void Writer::number(std::int64_t number) {
  const auto bits = static_cast<std::uint64_t>(number);
  if (bits < 0x100) {
    code(opcode::kBinInt1);
    append(frame_, bits, 1);
  } else if (bits < 0x10000) {
    code(opcode::kBinInt2);
    append(frame_, bits, 2);
  } else if (number >= std::numeric_limits<std::int32_t>::min() &&
             number <= std::numeric_limits<std::int32_t>::max()) {
    code(opcode::kBinInt);
    append(frame_, bits, 4);
  } else {
    std::size_t bytes = 8;
    while (number << (64 - 8 * (bytes - 1)) >> (64 - 8 * (bytes - 1)) == number) --bytes;
    code(opcode::kLong1);
    append(frame_, bytes, 1);
    append(frame_, bits, bytes);
  }
}

void Writer::tuple(std::span<const std::int64_t> numbers) {
  constexpr std::uint8_t kSmall[] = {opcode::kEmptyTuple, opcode::kTuple1, opcode::kTuple2,
                                     opcode::kTuple3};
  const bool small = numbers.size() < std::size(kSmall);
  if (!small) code(opcode::kMark);
  for (const std::int64_t one : numbers) number(one);
  code(small ? kSmall[numbers.size()] : opcode::kTuple);
}

void Writer::flush() {
  block_.push_back(static_cast<char>(opcode::kFrame));
  append(block_, frame_.size(), 8);
  block_ += frame_;
  frame_.clear();
  if (block_.size() < kBlock) return;
  sink_(block_);
  block_.clear();
}

void Writer::stop() {
  code(opcode::kStop);
  flush();
  if (!block_.empty()) sink_(block_);
  block_.clear();
}

}  // namespace shardplan::pickle
