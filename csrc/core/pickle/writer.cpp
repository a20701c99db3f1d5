#include "core/pickle/writer.h"

#include <algorithm>
#include <utility>

#include "core/pickle/opcodes.h"

namespace shardplan::pickle {

Writer::Writer(Sink sink) : sink_(std::move(sink)) {
  code(opcode::kProto);
  code(4);
  begin_frame();
}

void Writer::grow(std::size_t bytes) {
  block_.resize(std::max(2 * block_.size(), size_ + bytes + kFrame));
}

void Writer::little_endian(std::uint64_t number, std::size_t bytes) {
  char* const out = space_for(bytes);
  for (std::size_t at = 0; at < bytes; ++at) out[at] = static_cast<char>(number >> (8 * at));
  size_ += bytes;
}

void Writer::get(std::uint32_t memo) {
  if (memo < 0x100) {
    code(opcode::kBinGet);
    code(static_cast<std::uint8_t>(memo));
  } else {
    code(opcode::kLongBinGet);
    little_endian(memo, 4);
  }
}

void Writer::text(std::string_view text) {
  if (text.size() < 0x100) {
    code(opcode::kShortBinUnicode);
    little_endian(text.size(), 1);
  } else {
    code(opcode::kBinUnicode8);
    little_endian(text.size(), 8);
  }
  raw(text);
}

void Writer::tuple(std::span<const std::int64_t> numbers) {
  const bool is_small = numbers.size() <= kMaxSmallTuple;
  if (!is_small) code(opcode::kMark);
  for (const std::int64_t one : numbers) number(one);
  code(is_small ? kSmallTuples[numbers.size()] : opcode::kTuple);
}

void Writer::begin_frame() {
  code(opcode::kFrame);
  little_endian(0, 8);  // `end_frame` sets it
  frame_ = size_;
}

void Writer::end_frame() {
  const std::size_t end = std::exchange(size_, frame_ - 8);
  little_endian(end - frame_, 8);
  size_ = end;
}

void Writer::flush() {
  sink_(std::string_view(block_).substr(0, size_));
  size_ = 0;
}

void Writer::next_frame() {
  end_frame();
  if (size_ >= kBlock) flush();
  begin_frame();
}

void Writer::stop() {
  code(opcode::kStop);
  end_frame();
  flush();
}

}  // namespace shardplan::pickle
