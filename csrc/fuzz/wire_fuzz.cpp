// Reads wire formats. Any input is read or rejected with BadWire; decoded data is equal after
// another round trip. Some inputs are messages, others describe edits of sound messages.

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/wire/bytes.h"
#include "core/wire/chunks.h"
#include "core/wire/envelope.h"
#include "core/wire/load_plan.h"
#include "core/wire/save_plan.h"
#include "core/wire/storage.h"
#include "edits.h"
#include "fuzz_input.h"
#include "random_plans.h"

namespace shardplan::fuzz {
namespace {

constexpr std::string_view kRelease = "0";

/// Table with entries of each kind, with 0 to 3 dims.
const wire::NamedTable& some_table() {
  static const wire::NamedTable table = [] {
    wire::NamedTable made;
    made.properties = {"float32", "bfloat16"};
    const std::vector<std::vector<std::int64_t>> shapes = {{}, {7}, {5, 6}, {2, 3, 4}};
    std::uint32_t name = 0;
    for (const columns::WriteKind kind :
         {columns::WriteKind::kTensor, columns::WriteKind::kShard, columns::WriteKind::kBytes}) {
      for (const auto& shape : shapes) {
        if (kind == columns::WriteKind::kBytes && !shape.empty()) continue;
        made.table.spec.push_back(made.table.specs.push(kind, name % 2, shape));
        made.table.name.push_back(name++);
        made.names.names.push_back("entry." + std::to_string(name));
      }
    }
    return made;
  }();
  return table;
}

void read_a_table(std::string_view message) {
  const wire::NamedTable table = wire::read_table(message);
  const std::optional<std::string> bytes = wire::write_table(table);
  if (!bytes) return;
  // Equal specs are merged.
  const wire::NamedTable again = wire::read_table(*bytes);
  expect(again.names.names == table.names.names && again.table.name == table.table.name &&
             again.properties == table.properties && wire::write_table(again) == bytes,
         "a table differs after a round trip");
}

void read_a_save_plan(std::string_view message, std::size_t count,
                      const columns::SaveTable& table) {
  const wire::ReceivedRows rows = wire::read_rows(message, count, table);
  columns::SavePlanView view{&table, &rows.rows};
  if (!rows.chunk_indices.empty()) view.chunk_indices = &rows.chunk_indices;
  const wire::ReceivedRows again = wire::read_rows(wire::write_rows(view), count, table);
  expect(again.rows.entry == rows.rows.entry && again.rows.numbers == rows.rows.numbers &&
             again.chunk_indices == rows.chunk_indices,
         "a save plan differs after a round trip");
}

void read_a_load_plan(std::string_view names, std::string_view message, std::size_t count) {
  const wire::NamedReads reads = wire::read_reads(names, message, count);
  const std::optional<std::string> table = wire::write_read_names(reads.names);
  const std::optional<std::string> rows = wire::write_reads(reads.rows);
  if (!table || !rows) return;
  const wire::NamedReads again = wire::read_reads(*table, *rows, count);
  expect(again.names == reads.names && again.rows.numbers == reads.rows.numbers &&
             again.rows.name == reads.rows.name,
         "a load plan differs after a round trip");
}

void read_chunks_of(Input input) {
  const columns::SaveTable& table = some_table().table;
  const columns::SavedChunks chunks = wire::read_chunks(input.rest(), table);
  const columns::SavedChunks again = wire::read_chunks(wire::write_chunks(chunks), table);
  expect(again.begin == chunks.begin && again.numbers == chunks.numbers,
         "chunks differ after a round trip");
}

void read_a_storage(Input input) {
  const std::size_t count = input.byte();
  const std::string_view bytes = input.take(input.byte());
  const auto names = std::make_shared<const util::TextTable>(wire::read_storage_names(bytes));
  const columns::StorageRows rows = wire::read_storage_rows(input.rest(), count, names);
  const columns::StorageRows again =
      wire::read_storage_rows(wire::write_storage_rows(rows), count, names);
  expect(again.name == rows.name && again.begin == rows.begin && again.length == rows.length &&
             again.numbers == rows.numbers && again.chunk_index == rows.chunk_index,
         "storage rows differ after a round trip");
  expect(columns::StorageIndex(rows)
                 .find(rows.size() == 0 ? columns::StorageKey{} : rows.key(0), 0)
                 .has_value() == (rows.size() != 0),
         "a row is not found by its key");
}

void open_an_envelope(wire::WireKind kind, std::string_view message) {
  const wire::Envelope contents = wire::open(kind, kRelease, message);
  expect(contents.items <= contents.table.size() + contents.rows.size() + 64, "too many items");
}

void read_edited(std::size_t format, Input input) {
  testing::Random random(input.take(input.byte()));
  const wire::NamedTable table = testing::random_table(random);
  const std::string of_table = wire::write_table(table).value_or("");
  switch (format % 4) {
    case 0: return read_a_table(edited(of_table, input));
    case 1: {
      const testing::OwnedPlan plan = testing::random_plan(table.table, random);
      const columns::SavePlanView view = plan.view(table.table);
      return read_a_save_plan(edited(wire::write_rows(view), input), view.size(), table.table);
    }
    case 2: {
      const wire::NamedReads reads = testing::random_reads(random);
      const std::string names = edited(wire::write_read_names(reads.names).value_or(""), input);
      const std::string rows = edited(wire::write_reads(reads.rows).value_or(""), input);
      return read_a_load_plan(names, rows, reads.rows.size());
    }
    default: {
      const std::string rows = testing::random_bytes(20, random);
      const std::string message =
          wire::seal(wire::WireKind{1}, kRelease, {of_table.size(), of_table, rows});
      const wire::Envelope contents = wire::open(wire::WireKind{1}, kRelease, message);
      expect(contents.table == of_table && contents.rows == rows,
             "an envelope differs after a round trip");
      return open_an_envelope(wire::WireKind{1}, edited(message, input));
    }
  }
}

void run(Input input) {
  const std::size_t format = input.byte();
  try {
    if (format >= 128) return read_edited(format, input);
    switch (format % 6) {
      case 0: return read_a_table(input.rest());
      case 1: {
        const std::size_t count = input.byte();
        return read_a_save_plan(input.rest(), count, some_table().table);
      }
      case 2: {
        const std::size_t count = input.byte();
        const std::string_view names = input.take(input.byte());
        return read_a_load_plan(names, input.rest(), count);
      }
      case 3: return read_chunks_of(input);
      case 4: return read_a_storage(input);
      default: {
        const auto kind = static_cast<wire::WireKind>(input.byte() % 4 + 1);
        return open_an_envelope(kind, input.rest());
      }
    }
  } catch (const wire::BadWire&) {
  }
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
