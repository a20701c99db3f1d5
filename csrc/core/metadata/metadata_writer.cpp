#include "core/metadata/metadata_writer.h"

#include <algorithm>

#include "core/pickle/opcodes.h"

namespace shardplan::metadata {
namespace {

/// Writes an object of a class, without attributes.
void object(pickle::Writer& out, std::uint32_t cls) {
  out.get(cls);
  out.code(pickle::opcode::kEmptyTuple);
  out.code(pickle::opcode::kNewObj);
}

void begin_state(pickle::Writer& out) {
  out.code(pickle::opcode::kEmptyDict);
  out.code(pickle::opcode::kMark);
}

void end_state(pickle::Writer& out) {
  out.code(pickle::opcode::kSetItems);
  out.code(pickle::opcode::kBuild);
}

void size(pickle::Writer& out, const MetadataMemo& memo, std::span<const std::int64_t> numbers) {
  out.get(memo.size_class);
  out.tuple(numbers);
  out.code(pickle::opcode::kTuple1);
  out.code(pickle::opcode::kReduce);
}

void chunk(pickle::Writer& out, const MetadataMemo& memo, const std::int64_t* numbers,
           std::size_t ndim) {
  object(out, memo.chunk_class);
  begin_state(out);
  out.get(memo.offsets);
  size(out, memo, {numbers, ndim});
  out.get(memo.sizes);
  size(out, memo, {numbers + ndim, ndim});
  end_state(out);
}

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

}  // namespace

RecordClasses classes_of(const columns::SavedChunks* chunks, const columns::StorageRows* rows) {
  RecordClasses used;
  if (chunks != nullptr) {
    const columns::EntrySpecs& specs = chunks->table.specs;
    used.tensor = std::ranges::any_of(specs.kind, columns::writes_tensor);
    used.bytes = std::ranges::count(specs.kind, columns::WriteKind::kBytes) > 0;
    used.chunk = chunks->begin.back() > 0;
  }
  if (rows != nullptr) used.index = used.location = rows->size() > 0;
  const auto has_offset = [](std::uint8_t ndim) { return ndim != columns::StorageRows::kNoOffset; };
  used.size = used.tensor || (rows != nullptr && std::ranges::any_of(rows->ndim, has_offset));
  return used;
}

void write_entries(pickle::Writer& out, const MetadataMemo& memo,
                   const columns::SavedChunks& chunks, const EntryPickles& pickles) {
  const auto write = [&](std::size_t entry) {
    out.get(pickles.first_name + static_cast<std::uint32_t>(entry));
    const std::size_t spec = chunks.table.spec[entry];
    const columns::WriteKind kind = chunks.table.specs.kind[spec];
    if (kind == columns::WriteKind::kObject) {
      out.raw(pickles.objects(entry));
      return;
    }
    object(out, kind == columns::WriteKind::kBytes ? memo.bytes_class : memo.tensor_class);
    if (kind == columns::WriteKind::kBytes) return;
    begin_state(out);
    out.get(memo.properties);
    out.raw(pickles.properties[chunks.table.specs.properties[spec]]);
    out.get(memo.size);
    size(out, memo, chunks.table.specs.shape(spec));
    out.get(memo.chunks);
    out.code(pickle::opcode::kEmptyList);
    fill(out, chunks.chunk_count(entry), pickle::opcode::kAppends,
         [&](std::size_t at) { chunk(out, memo, chunks.chunk(entry, at), chunks.ndim(entry)); });
    end_state(out);
  };
  out.code(pickle::opcode::kEmptyDict);
  fill(out, chunks.size(), pickle::opcode::kSetItems, write);
}

void write_storage(pickle::Writer& out, const MetadataMemo& memo, const columns::StorageRows& rows,
                   std::uint32_t first_name, std::uint32_t first_path) {
  const auto write = [&](std::size_t row) {
    object(out, memo.index_class);
    begin_state(out);
    out.get(memo.fqn);
    out.get(first_name + rows.name[row]);
    out.get(memo.index);
    if (rows.chunk_index[row] == columns::kNoChunkIndex) {
      out.code(pickle::opcode::kNone);
    } else {
      out.number(rows.chunk_index[row]);
    }
    if (rows.ndim[row] != columns::StorageRows::kNoOffset) {
      out.get(memo.offset);
      size(out, memo, rows.offset(row));
    }
    end_state(out);
    object(out, memo.location_class);
    begin_state(out);
    out.get(memo.relative_path);
    out.get(first_path + rows.path[row]);
    out.get(memo.offset);
    out.number(rows.begin[row]);
    out.get(memo.length);
    out.number(rows.length[row]);
    end_state(out);
  };
  out.code(pickle::opcode::kEmptyDict);
  fill(out, rows.size(), pickle::opcode::kSetItems, write);
}

}  // namespace shardplan::metadata
