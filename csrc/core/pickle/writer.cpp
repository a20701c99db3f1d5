#include "core/pickle/writer.h"

#include <algorithm>
#include <utility>

#include "core/pickle/opcodes.h"
#include "core/util/little_endian.h"

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
  util::store_little_endian(space_for(bytes), number, bytes);
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
  encode_tuple(
      numbers, [&](std::uint8_t one) { code(one); }, [&](std::int64_t one) { number(one); });
}

void Writer::begin_frame() {
  code(opcode::kFrame);
  little_endian(0, 8);  // `end_frame` sets it
  frame_ = size_;
}

void Writer::end_frame() {
  util::store_little_endian(block_.data() + frame_ - 8, size_ - frame_, 8);
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
