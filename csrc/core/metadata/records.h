#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/pickle/opcodes.h"
#include "core/pickle/writer.h"

namespace shardplan::metadata {

/// Memo slots of the classes and attribute names used by every record.
struct MetadataMemo {
  std::uint32_t size_class = 0, chunk_class = 0, tensor_class = 0, bytes_class = 0, index_class = 0,
                location_class = 0, plan_class = 0, item_class = 0, data_class = 0;
  std::uint32_t offsets = 0, sizes = 0, properties = 0, size = 0, chunks = 0, fqn = 0, index = 0,
                offset = 0, relative_path = 0, length = 0, type = 0, bytes_io_data = 0,
                tensor_data = 0, chunk = 0;
  std::array<std::uint32_t, 4> writes{};  // per columns::WriteKind: its member of WriteItemType
};

/// Number of items that pickle appends to a list or dict at once.
inline constexpr std::size_t kBatch = 1000;

/// Writes an object of a class, without attributes.
inline void write_object(pickle::Writer& out, std::uint32_t cls) {
  out.get(cls);
  out.code(pickle::opcode::kEmptyTuple);
  out.code(pickle::opcode::kNewObj);
}

/// The attributes of the object on top of the stack are written between these calls.
inline void begin_state(pickle::Writer& out) {
  out.code(pickle::opcode::kEmptyDict);
  out.code(pickle::opcode::kMark);
}
inline void end_state(pickle::Writer& out) {
  out.code(pickle::opcode::kSetItems);
  out.code(pickle::opcode::kBuild);
}

/// Writes a torch.Size.
void write_size(pickle::Writer& out, const MetadataMemo& memo,
                std::span<const std::int64_t> numbers);

/// Writes a ChunkStorageMetadata. `numbers` are `ndim` offsets, then `ndim` sizes.
void write_chunk(pickle::Writer& out, const MetadataMemo& memo, const std::int64_t* numbers,
                 std::size_t ndim);

/// Writes a MetadataIndex. `name_slot` is the memo slot of its fqn. `chunk_index` can be
/// columns::kNoChunkIndex.
void write_index(pickle::Writer& out, const MetadataMemo& memo, std::uint32_t name_slot,
                 std::int64_t chunk_index, std::optional<std::span<const std::int64_t>> offset);

/// Calls `write(i)` for each of `count` items and adds them in batches, with opcode `with`, to the
/// container on top of the stack.
template <typename Write>
void fill(pickle::Writer& out, std::size_t count, std::uint8_t with, Write&& write) {
  for (std::size_t begin = 0; begin < count; begin += kBatch) {
    out.code(pickle::opcode::kMark);
    for (std::size_t at = begin; at < std::min(begin + kBatch, count); ++at) {
      write(at);
      out.flush_if_full();
    }
    out.code(with);
  }
}

}  // namespace shardplan::metadata
