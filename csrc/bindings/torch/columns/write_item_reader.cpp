#include "bindings/torch/columns/write_item_reader.h"

#include <algorithm>
#include <optional>

#include "bindings/torch/upstream/chunk_reader.h"
#include "bindings/torch/upstream/object_reader.h"
#include "core/planning/dedup.h"

namespace shardplan::bindings {

/// The fields of one item.
struct WriteItemReader::Reading {
  columns::WriteKind kind = columns::WriteKind::kObject;
  py::object name;
  std::int64_t chunk_index = columns::kNoChunkIndex;
  std::int64_t counted = columns::kBytesOfTensor;
  Numbers shape;
  Numbers box;  // offsets, sizes
  PropertyValues properties;
};

namespace {

bool read_kind(PyObject* type, columns::WriteKind& kind) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (type == types.write_bytes) kind = columns::WriteKind::kBytes;
  if (type == types.write_tensor) kind = columns::WriteKind::kTensor;
  if (type == types.write_shard) kind = columns::WriteKind::kShard;
  return kind != columns::WriteKind::kObject;
}

/// Returns true if the offset of an index is that of the chunk, and both have the dims of the
/// tensor.
bool consistent(const std::optional<Numbers>& offset, const Numbers& box,
                const std::vector<std::int64_t>& shape) {
  return offset && offset->size() == shape.size() && box.size() == 2 * shape.size() &&
         shape.size() <= columns::kMaxDims &&
         std::ranges::equal(*offset, std::span(box).first(offset->size()));
}

wire::BadWire wrong_item_count(const SavePlanColumns& columns, const py::list& items) {
  const columns::SavePlanView view = columns.view();
  std::size_t object_rows = 0;
  for (std::size_t position = 0; position < view.size(); ++position) {
    object_rows += view.kind(position) == columns::WriteKind::kObject ? 1U : 0U;
  }
  return wire::BadWire("has " + std::to_string(items.size()) + " items for " +
                       std::to_string(object_rows) + " object rows");
}

}  // namespace

bool WriteItemReader::read_upstream(PyObject* item, Reading& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object all = attributes_of(item, types.write_item, 4);
  if (!all) return false;
  PyObject* type = attribute(all, types.type);
  PyObject* data = attribute(all, types.tensor_data);
  if (type == nullptr || data == nullptr || attribute(all, types.bytes_io_data) != Py_None) {
    return false;
  }
  UpstreamIndex index;
  if (!read_kind(type, out.kind) || !read_upstream_index(attribute(all, types.index), index)) {
    return false;
  }
  out.name = index.name;
  out.chunk_index = index.chunk_index.value_or(columns::kNoChunkIndex);
  if (out.kind == columns::WriteKind::kBytes)
    return data == Py_None && !index.offset && !index.chunk_index;
  const py::object tensor = attributes_of(data, types.tensor_write_data, 3);
  const bool is_read = tensor && read_exact_chunk(attribute(tensor, types.chunk_name), out.box) &&
                       read_size(attribute(tensor, types.size), out.shape) &&
                       consistent(index.offset, out.box, out.shape) &&
                       read_properties(attribute(tensor, types.properties), out.properties);
  if (is_read) {
    note_object(attribute(tensor, types.chunk_name));
    note_object(attribute(tensor, types.properties));
  }
  return is_read;
}

bool WriteItemReader::read_object(PyObject* item, Reading& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object type = read_attribute(item, types.type);
  const py::object index_object = read_attribute(item, types.index);
  UpstreamIndex index;
  if (!type || !read_kind(type.ptr(), out.kind) ||
      !read_upstream_index(index_object.ptr(), index)) {
    return false;
  }
  out.name = index.name;
  out.chunk_index = index.chunk_index.value_or(columns::kNoChunkIndex);
  const auto bytes =
      py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(item, types.tensor_storage_size));
  if (!bytes) {
    if (!PyErr_ExceptionMatches(PyExc_Exception)) throw py::error_already_set();
    PyErr_Clear();
    return false;
  }
  out.counted = 1;
  if (!bytes.is_none() && (!read_int(bytes.ptr(), out.counted) || out.counted < 0)) return false;
  if (out.kind == columns::WriteKind::kBytes) return !index.offset;
  const py::object data = read_attribute(item, types.tensor_data);
  if (!data || data.is_none()) return false;
  const py::object chunk = read_attribute(data.ptr(), types.chunk_name);
  const py::object size = read_attribute(data.ptr(), types.size);
  const py::object properties = read_attribute(data.ptr(), types.properties);
  note_object(chunk.ptr());
  note_object(properties.ptr());
  return chunk && size && properties && read_exact_chunk(chunk.ptr(), out.box) &&
         read_size(size.ptr(), out.shape) && consistent(index.offset, out.box, out.shape);
}

void WriteItemReader::note_object(PyObject* object) {
  if (object != nullptr && !seen_.insert(object).second) rows_.shared = true;
}

void WriteItemReader::add(const py::object& item) {
  const std::size_t row = rows_.columns.size();
  Reading reading;
  bool is_object = false;
  if (!read_upstream(item.ptr(), reading)) {
    reading = Reading();
    is_object = true;
    if (!read_object(item.ptr(), reading)) {
      reading = Reading();
      rows_.opaque = true;
    }
  }
  push(reading);
  rows_.items.resize(row + 1);
  rows_.items[row] = item;
  if (is_object || !rows_.objects.empty()) {
    rows_.objects.resize(row + 1);
    rows_.counted.resize(row + 1, columns::kBytesOfTensor);
    rows_.objects[row] = is_object;
    rows_.counted[row] = reading.counted;
  }
}

void WriteItemReader::add_row(const SavePlanColumns& columns, std::size_t position) {
  const columns::SavePlanView view = columns.view();
  Reading reading;
  reading.kind = view.kind(position);
  reading.name = py::reinterpret_borrow<py::object>(columns.name(position));
  reading.chunk_index = view.chunk_index(position);
  const auto shape = view.shape(position);
  reading.shape.assign(shape.begin(), shape.end());
  const std::int64_t* numbers = view.numbers(position);
  reading.box.assign(numbers, numbers + 2 * shape.size());
  if (columns::writes_tensor(reading.kind)) reading.properties = columns.properties(position);
  push(reading);
  if (!rows_.items.empty()) rows_.items.emplace_back();
  if (!rows_.objects.empty()) rows_.objects.push_back(false);
  if (!rows_.counted.empty()) rows_.counted.push_back(columns::kBytesOfTensor);
}

void WriteItemReader::push(const Reading& reading) {
  const std::uint32_t properties =
      reading.properties.empty() ? 0 : properties_row(reading.properties);
  const py::object name = reading.name ? reading.name : py::str();
  if (table_.names.empty() || !table_.names.back().is(name)) table_.names.push_back(name);
  const std::uint32_t entry = table_.columns.push_if_new(
      static_cast<std::uint32_t>(table_.names.size() - 1), reading.kind, properties, reading.shape);
  columns::push_chunk_index(chunk_indices_, rows_.columns.size(), reading.chunk_index);
  std::ranges::copy(reading.box, rows_.columns.push(entry, reading.shape.size()));
}

std::uint32_t WriteItemReader::properties_row(const PropertyValues& values) {
  return columns::row_of(table_.properties, values, [&](const PropertyValues& row) {
    return std::ranges::equal(row, values,
                              [](const py::object& a, const py::object& b) { return a.is(b); });
  });
}

std::shared_ptr<SavePlanColumns> WriteItemReader::take() {
  auto columns = std::make_shared<SavePlanColumns>();
  columns->table = std::make_shared<const PlanTable>(std::move(table_));
  columns->rows = std::make_shared<PlanRows>(std::move(rows_));
  if (!chunk_indices_.empty()) {
    columns->chunk_indices =
        std::make_shared<const std::vector<std::int64_t>>(std::move(chunk_indices_));
  }
  return columns;
}

std::shared_ptr<SavePlanColumns> read_write_items(const py::object& list) {
  WriteItemReader reader;
  for (Py_ssize_t at = 0; at < PyList_GET_SIZE(list.ptr()); ++at) {
    reader.add(list_item(list.ptr(), at));
  }
  return reader.take();
}

std::shared_ptr<SavePlanColumns> with_items(const SavePlanColumns& columns, const py::list& items) {
  WriteItemReader reader;
  std::size_t next = 0;
  for (std::size_t position = 0; position < columns.size(); ++position) {
    if (columns.view().kind(position) != columns::WriteKind::kObject) {
      reader.add_row(columns, position);
    } else if (next < items.size()) {
      reader.add(items[next++]);
    } else {
      throw wrong_item_count(columns, items);
    }
  }
  if (next != items.size()) throw wrong_item_count(columns, items);
  return reader.take();
}

}  // namespace shardplan::bindings
