#include "core/metadata/records.h"

#include "core/columns/plan.h"

namespace shardplan::metadata {

void write_size(pickle::Writer& out, const MetadataMemo& memo,
                std::span<const std::int64_t> numbers) {
  out.get(memo.size_class);
  out.tuple(numbers);
  out.code(pickle::opcode::kTuple1);
  out.code(pickle::opcode::kReduce);
}

void write_chunk(pickle::Writer& out, const MetadataMemo& memo, const std::int64_t* numbers,
                 std::size_t ndim) {
  write_object(out, memo.chunk_class);
  begin_state(out);
  out.get(memo.offsets);
  write_size(out, memo, {numbers, ndim});
  out.get(memo.sizes);
  write_size(out, memo, {numbers + ndim, ndim});
  end_state(out);
}

void write_index(pickle::Writer& out, const MetadataMemo& memo, std::uint32_t name_slot,
                 std::int64_t chunk_index, std::optional<std::span<const std::int64_t>> offset) {
  write_object(out, memo.index_class);
  begin_state(out);
  out.get(memo.fqn);
  out.get(name_slot);
  out.get(memo.index);
  if (chunk_index == columns::kNoChunkIndex) {
    out.code(pickle::opcode::kNone);
  } else {
    out.number(chunk_index);
  }
  if (offset) {
    out.get(memo.offset);
    write_size(out, memo, *offset);
  }
  end_state(out);
}

}  // namespace shardplan::metadata
