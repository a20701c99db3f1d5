#include "bindings/torch/wire/metadata_wire.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "bindings/torch/wire/path_shapes.h"
#include "bindings/torch/wire/property_wire.h"
#include "core/util/hash.h"
#include "core/wire/chunks.h"
#include "core/wire/storage.h"

namespace shardplan::bindings {
namespace {

/// Decodes names. Equal bytes share one table as long as it is in use.
std::shared_ptr<const util::TextTable> shared_names(std::string_view bytes) {
  struct Known {
    std::string bytes;
    std::weak_ptr<const util::TextTable> names;
  };
  // Tables by fingerprint. Never freed; it owns no Python object.
  static auto& known = *new std::unordered_map<std::uint64_t, Known>();
  Known& entry = known[util::fingerprint(bytes)];
  if (auto names = entry.names.lock(); names && entry.bytes == bytes) return names;
  auto names = std::make_shared<const util::TextTable>(wire::read_storage_names(bytes));
  entry = {std::string(bytes), names};
  std::erase_if(known, [](const auto& one) { return one.second.names.expired(); });
  return names;
}

std::shared_ptr<SavedMetadata> decode(const wire::Envelope& contents, const py::object& objects) {
  wire::NamedTable named = wire::read_table(contents.table);
  auto saved = std::make_shared<SavedMetadata>();
  for (const std::string& name : named.names.names) saved->names.push_back(text_from_utf8(name));
  for (const std::string& row : named.properties) {
    saved->properties.push_back(properties_from_wire(row));
  }
  if (!PyList_CheckExact(objects.ptr())) throw wire::BadWire("has no list of values");
  for (const py::handle value : objects) {
    saved->objects.push_back(py::reinterpret_borrow<py::object>(value));
  }
  saved->chunks = wire::read_chunks(contents.rows, std::move(named.table));
  std::size_t object_rows = 0;
  for (const std::uint32_t spec : saved->chunks.table.spec) {
    object_rows += saved->chunks.table.specs.kind[spec] == columns::WriteKind::kObject ? 1U : 0U;
  }
  if (object_rows != saved->objects.size()) {
    throw wire::BadWire("has " + std::to_string(saved->objects.size()) + " values for " +
                        std::to_string(object_rows) + " object rows");
  }
  if (contents.items != saved->chunks.size()) {
    throw wire::BadWire("has " + std::to_string(saved->chunks.size()) + " entries instead of " +
                        std::to_string(contents.items));
  }
  return saved;
}

}  // namespace

std::optional<PackedMetadata> pack_saved_metadata(const py::dict& entries) {
  const auto saved = read_saved_metadata(entries);
  if (!saved) return std::nullopt;
  wire::NamedTable named;
  named.table = saved->chunks.table;
  for (const py::object& name : saved->names) {
    const auto text = utf8(name.ptr());
    if (!text) return std::nullopt;
    named.names.names.emplace_back(*text);
  }
  for (const PropertyValues& values : saved->properties) {
    auto row = properties_to_wire(values);
    if (!row) return std::nullopt;
    named.properties.push_back(std::move(*row));
  }
  const std::optional<std::string> table = wire::write_table(named);
  if (!table) return std::nullopt;
  const std::string rows = wire::write_chunks(saved->chunks);
  PackedMetadata packed;
  packed.bytes = py::bytes(
      wire::seal(wire::WireKind::kSavedChunks, kRelease, {saved->chunks.size(), *table, rows}));
  for (const py::object& value : saved->objects) packed.objects.append(value);
  return packed;
}

std::optional<py::bytes> pack_storage(const columns::StorageRows& rows) {
  const std::optional<std::string> names = wire::write_storage_names(rows);
  if (!names) return std::nullopt;
  return py::bytes(wire::seal(wire::WireKind::kStorage, kRelease,
                              {rows.size(), *names, wire::write_storage_rows(rows)}));
}

py::dict ReceivedMetadata::entries(const py::object& fill) {
  std::shared_ptr<SavedMetadata> saved;
  if (!read([&](const wire::Envelope& contents) { saved = decode(contents, objects_); })) {
    throw py::value_error("the metadata from the coordinator cannot be read: it " + problem());
  }
  return SavedMetadata::entries(saved, fill);
}

std::shared_ptr<StorageColumns> ReceivedStorage::columns() {
  if (!columns_) {
    read([&](const wire::Envelope& contents) {
      columns_ = std::make_shared<StorageColumns>(
          wire::read_storage_rows(contents.rows, contents.items, shared_names(contents.table)));
    });
  }
  if (columns_) return columns_;
  throw py::value_error("the storage data from another rank cannot be read: it " + problem());
}

}  // namespace shardplan::bindings
