#include "core/pickle/writer.h"

#include <utility>

#include "core/pickle/encoding.h"
#include "core/pickle/opcodes.h"
#include "core/util/little_endian.h"

namespace shardplan::pickle {
Writer::Writer(Sink sink) : sink_(std::move(sink)) {
  block_ = {static_cast<char>(opcode::kProto), 4};
}

void Writer::get(std::uint32_t memo) {
  if (memo < 0x100) {
    code(opcode::kBinGet);
    util::append_little_endian(frame_, memo, 1);
  } else {
    code(opcode::kLongBinGet);
    util::append_little_endian(frame_, memo, 4);
  }
}

void Writer::text(std::string_view text) {
  if (text.size() < 0x100) {
    code(opcode::kShortBinUnicode);
    util::append_little_endian(frame_, text.size(), 1);
  } else {
    code(opcode::kBinUnicode8);
    util::append_little_endian(frame_, text.size(), 8);
  }
  raw(text);
}

void Writer::number(std::int64_t number) {
  append_number(frame_, number);
}

void Writer::tuple(std::span<const std::int64_t> numbers) {
  append_tuple(frame_, numbers);
}

void Writer::flush() {
  block_.push_back(static_cast<char>(opcode::kFrame));
  util::append_little_endian(block_, frame_.size(), 8);
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
