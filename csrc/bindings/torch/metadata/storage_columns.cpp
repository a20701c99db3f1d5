#include "bindings/torch/metadata/storage_columns.h"

#include <algorithm>
#include <unordered_set>

#include "bindings/torch/upstream/item_maker.h"
#include "bindings/torch/upstream/object_reader.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"

namespace shardplan::bindings {
namespace {

/// The fields of a _StorageInfo.
struct Location {
  std::string_view path;
  std::int64_t begin = 0;
  std::int64_t length = 0;
};

bool read_exact_int(PyObject* object, std::int64_t& out) {
  return object != nullptr && PyLong_CheckExact(object) && read_int(object, out);
}

bool read_location(PyObject* object, Location& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (object == nullptr || Py_TYPE(object) != types.storage_info.type ||
      !types.storage_info.known) {
    return false;
  }
  const py::object all = checked(PyObject_GenericGetDict(object, nullptr));
  PyObject* transforms = attribute(all, types.transform_descriptors);
  if (transforms != nullptr && transforms != Py_None) return false;
  if (PyDict_GET_SIZE(all.ptr()) != (transforms == nullptr ? 3 : 4)) return false;
  PyObject* path = attribute(all, types.relative_path);
  const auto text = path == nullptr ? std::nullopt : utf8(path);
  if (!text) return false;
  out.path = *text;
  return read_exact_int(attribute(all, types.offset), out.begin) &&
         read_exact_int(attribute(all, types.length), out.length);
}

bool read_hf_location(PyObject* object, Location& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object all = attributes_of(object, types.hf_storage_info, 3);
  PyObject* path = all ? attribute(all, types.relative_path) : nullptr;
  const auto text = path == nullptr ? std::nullopt : utf8(path);
  if (text) out.path = *text;
  return text.has_value();
}

class RowReader {
 public:
  /// read(location, out): reads the fields of a location
  explicit RowReader(bool (*read)(PyObject*, Location&) = read_location) : read_(read) {}

  bool add(PyObject* index, PyObject* location) {
    UpstreamIndex key;
    Location at;
    if (!read_upstream_index(index, key) || !read_(location, at)) return false;
    // Columns would copy an object that two keys share.
    if (!seen_.insert(location).second) return false;
    const auto name = utf8(key.name.ptr());
    if (!name || (key.offset && key.offset->size() > columns::kMaxDims)) return false;
    const auto ndim = key.offset ? static_cast<std::uint8_t>(key.offset->size())
                                 : columns::StorageRows::kNoOffset;
    std::int64_t* numbers =
        rows_.push(names_->number_of(*name), ndim, key.chunk_index.value_or(columns::kNoChunkIndex),
                   paths_->number_of(at.path), at.begin, at.length);
    if (key.offset) std::ranges::copy(*key.offset, numbers);
    return true;
  }

  columns::StorageRows take() {
    rows_.names = std::move(names_);
    rows_.paths = std::move(paths_);
    return std::move(rows_);
  }

 private:
  bool (*read_)(PyObject*, Location&);
  columns::StorageRows rows_;
  std::shared_ptr<util::TextTable> names_ = std::make_shared<util::TextTable>();
  std::shared_ptr<util::TextTable> paths_ = std::make_shared<util::TextTable>();
  std::unordered_set<PyObject*> seen_;
};

std::optional<columns::StorageRows> read_all(const py::dict& storage_data, RowReader reader) {
  PyObject* index = nullptr;
  PyObject* location = nullptr;
  Py_ssize_t at = 0;
  while (PyDict_Next(storage_data.ptr(), &at, &index, &location) != 0) {
    if (!reader.add(index, location)) return std::nullopt;
  }
  return reader.take();
}

}  // namespace

std::optional<std::int64_t> StorageColumns::find(const py::object& key) const {
  UpstreamIndex read;
  if (!read_upstream_index(key.ptr(), read)) return std::nullopt;
  const auto name = utf8(read.name.ptr());
  if (!name) return std::nullopt;
  std::optional<std::span<const std::int64_t>> offset;
  if (read.offset) offset = *read.offset;
  const auto row = row_of({*name, offset}, read.chunk_index.value_or(columns::kNoChunkIndex));
  return row ? static_cast<std::int64_t>(*row) : -1;
}

std::optional<std::size_t> StorageColumns::row_of(const columns::StorageKey& key,
                                                  std::int64_t chunk_index) const {
  if (!index_) index_ = std::make_unique<columns::StorageIndex>(rows_);
  return index_->find(key, chunk_index);
}

const py::object& StorageColumns::text(std::vector<py::object>& made, const util::TextTable& texts,
                                       std::uint32_t number) const {
  if (made.size() <= number) made.resize(texts.size());
  if (!made[number]) {
    auto text = text_from_pickle(texts[number]);
    if (!text) throw py::value_error("a name or path in storage_data is not UTF-8");
    made[number] = std::move(*text);
  }
  return made[number];
}

py::object StorageColumns::key(std::size_t row) const {
  const py::object& name = text(names_, *rows_.names, rows_.name[row]);
  const auto offset = rows_.offset(row);
  if (rows_.ndim[row] == columns::StorageRows::kNoOffset)
    return make_index(name.ptr(), rows_.chunk_index[row]);
  return make_index(name.ptr(), offset.data(), offset.size(), rows_.chunk_index[row]);
}

py::object StorageColumns::location(std::size_t row) const {
  return make_storage_info(text(paths_, *rows_.paths, rows_.path[row]), rows_.begin[row],
                           rows_.length[row]);
}

py::list StorageColumns::pairs(const py::dict& made) const {
  const CollectorPause pause;
  py::list all(size());
  for (std::size_t row = 0; row < size(); ++row) {
    const py::object number = checked(PyLong_FromSize_t(row));
    const py::object known = py::reinterpret_borrow<py::object>(
        made.empty() ? nullptr : PyDict_GetItemWithError(made.ptr(), number.ptr()));
    all[row] = py::make_tuple(key(row), known ? known : location(row));
  }
  return all;
}

py::list StorageColumns::results() const {
  const CollectorPause pause;
  py::list all(size());
  for (std::size_t row = 0; row < size(); ++row) {
    all[row] = make_write_result(key(row), rows_.length[row], location(row));
  }
  return all;
}

py::dict StorageColumns::file_sizes() const {
  const std::vector<std::int64_t> ends = columns::file_ends(rows_);
  py::dict sizes;
  for (std::uint32_t path = 0; path < ends.size(); ++path) {
    sizes[text(paths_, *rows_.paths, path)] = ends[path];
  }
  return sizes;
}

bool StorageColumns::matches(std::size_t row, const py::object& location) const {
  Location read;
  return read_location(location.ptr(), read) && read.path == (*rows_.paths)[rows_.path[row]] &&
         read.begin == rows_.begin[row] && read.length == rows_.length[row];
}

std::optional<columns::StorageRows> read_results(const py::object& list) {
  const UpstreamTypes& types = UpstreamTypes::get();
  RowReader reader;
  for (Py_ssize_t at = 0; at < PyList_GET_SIZE(list.ptr()); ++at) {
    const py::object result = list_item(list.ptr(), at);
    const py::object all = attributes_of(result.ptr(), types.write_result, 3);
    if (!all) return std::nullopt;
    PyObject* info = attribute(all, types.storage_data);
    std::int64_t bytes = 0;
    Location location;
    if (!read_exact_int(attribute(all, types.size_in_bytes), bytes) ||
        !read_location(info, location) || bytes != location.length ||
        !reader.add(attribute(all, types.index), info)) {
      return std::nullopt;
    }
  }
  return reader.take();
}

std::optional<columns::StorageRows> read_storage_data(const py::dict& storage_data) {
  return read_all(storage_data, RowReader());
}

std::optional<columns::StorageRows> read_hf_storage_data(const py::dict& storage_data) {
  return read_all(storage_data, RowReader(read_hf_location));
}

}  // namespace shardplan::bindings
