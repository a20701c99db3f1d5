#include "core/metadata/metadata_writer.h"

#include <algorithm>

#include "core/pickle/opcodes.h"

namespace shardplan::metadata {
RecordClasses classes_of(const columns::SavedChunks* chunks, const columns::StorageRows* rows,
                         std::span<const columns::SavePlanView> plans) {
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
  used.plan = !plans.empty();
  for (const columns::SavePlanView& plan : plans) {
    for (std::size_t position = 0; position < plan.size(); ++position) {
      used.writes[static_cast<std::size_t>(plan.kind(position))] = true;
    }
  }
  used.data = used.write(columns::WriteKind::kTensor) || used.write(columns::WriteKind::kShard);
  used.item = used.data || used.write(columns::WriteKind::kBytes);
  used.index = used.index || used.item;
  used.size = used.size || used.data;
  used.chunk = used.chunk || used.data;
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
    write_object(out, kind == columns::WriteKind::kBytes ? memo.bytes_class : memo.tensor_class);
    if (kind == columns::WriteKind::kBytes) return;
    begin_state(out);
    out.get(memo.properties);
    out.raw(pickles.properties[chunks.table.specs.properties[spec]]);
    out.get(memo.size);
    write_size(out, memo, chunks.table.specs.shape(spec));
    out.get(memo.chunks);
    out.code(pickle::opcode::kEmptyList);
    fill(out, chunks.chunk_count(entry), pickle::opcode::kAppends, [&](std::size_t at) {
      write_chunk(out, memo, chunks.chunk(entry, at), chunks.ndim(entry));
    });
    end_state(out);
  };
  out.code(pickle::opcode::kEmptyDict);
  fill(out, chunks.size(), pickle::opcode::kSetItems, write);
}

void write_storage(pickle::Writer& out, const MetadataMemo& memo, const columns::StorageRows& rows,
                   std::uint32_t first_name, std::uint32_t first_path) {
  const auto write = [&](std::size_t row) {
    write_index(out, memo, first_name + rows.name[row], rows.chunk_index[row],
                rows.optional_offset(row));
    write_object(out, memo.location_class);
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

void write_items(pickle::Writer& out, const MetadataMemo& memo, const columns::SavePlanView& plan,
                 std::span<const std::uint32_t> name_slots,
                 std::span<const std::string> properties) {
  const auto write = [&](std::size_t position) {
    const columns::WriteKind kind = plan.kind(position);
    const bool has_tensor = columns::writes_tensor(kind);
    const std::size_t ndim = plan.ndim(position);
    const std::int64_t* numbers = plan.numbers(position);
    const std::uint32_t name_slot = name_slots[plan.table->name[plan.entry(position)]];
    write_object(out, memo.item_class);
    begin_state(out);
    out.get(memo.index);
    if (has_tensor) {
      write_index(out, memo, name_slot, plan.chunk_index(position), std::span(numbers, ndim));
    } else {
      write_index(out, memo, name_slot, columns::kNoChunkIndex, std::nullopt);
    }
    out.get(memo.type);
    out.get(memo.writes[static_cast<std::size_t>(kind)]);
    out.get(memo.bytes_io_data);
    out.code(pickle::opcode::kNone);
    out.get(memo.tensor_data);
    if (has_tensor) {
      write_object(out, memo.data_class);
      begin_state(out);
      out.get(memo.chunk);
      write_chunk(out, memo, numbers, ndim);
      out.get(memo.properties);
      out.raw(properties[plan.table->specs.properties[plan.spec(position)]]);
      out.get(memo.size);
      write_size(out, memo, plan.shape(position));
      end_state(out);
    } else {
      out.code(pickle::opcode::kNone);
    }
    end_state(out);
  };
  out.code(pickle::opcode::kEmptyList);
  fill(out, plan.size(), pickle::opcode::kAppends, write);
}

}  // namespace shardplan::metadata
