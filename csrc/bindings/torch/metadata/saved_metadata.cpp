#include "bindings/torch/metadata/saved_metadata.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "bindings/torch/state_dict/property_table.h"
#include "bindings/torch/upstream/chunk_reader.h"
#include "bindings/torch/upstream/object_reader.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"

namespace shardplan::bindings {
namespace {

/// The chunks of one tensor of a metadata that was read from a file or received.
class SavedChunkList : public ChunkColumns {
 public:
  SavedChunkList(std::shared_ptr<const SavedMetadata> saved, std::size_t entry)
      : saved_(std::move(saved)), entry_(entry) {}

  std::size_t size() const override { return chunks().chunk_count(entry_); }
  py::list items() override {
    const CollectorPause pause;
    const std::size_t ndim = chunks().ndim(entry_);
    py::list made(size());
    for (std::size_t at = 0; at < size(); ++at) {
      const std::int64_t* numbers = chunks().chunk(entry_, at);
      made[at] = make_chunk(numbers, numbers + ndim, ndim);
    }
    return made;
  }
  bool append_to(boxes::Boxes& boxes) const override { return chunks().append_to(boxes, entry_); }
  bool copy_to(std::size_t ndim, std::int64_t* numbers) const override {
    if (ndim != chunks().ndim(entry_)) return size() == 0;
    std::copy_n(chunks().chunk(entry_, 0), size() * 2 * ndim, numbers);
    return true;
  }

 private:
  const columns::SavedChunks& chunks() const { return saved_->chunks; }

  std::shared_ptr<const SavedMetadata> saved_;
  std::size_t entry_;
};

class EntryReader {
 public:
  bool add(PyObject* name, PyObject* value) {
    if (!utf8(name)) return false;
    const auto number = static_cast<std::uint32_t>(saved_.names.size());
    saved_.names.push_back(py::reinterpret_borrow<py::object>(name));
    const UpstreamTypes& types = UpstreamTypes::get();
    if (attributes_of(value, {types.bytes_metadata, true}, 0)) {
      saved_.chunks.push(number, columns::WriteKind::kBytes, 0, {}, 0);
    } else if (!add_tensor(number, value)) {
      saved_.objects.push_back(py::reinterpret_borrow<py::object>(value));
      saved_.chunks.push(number, columns::WriteKind::kObject, 0, {}, 0);
    }
    return !shared_;
  }

  SavedMetadata take() {
    saved_.properties = properties_.take();
    return std::move(saved_);
  }

 private:
  bool add_tensor(std::uint32_t name, PyObject* value) {
    const UpstreamTypes& types = UpstreamTypes::get();
    const py::object all = attributes_of(value, types.tensor_storage, 3);
    if (!all) return false;
    PyObject* properties = attribute(all, types.properties);
    PyObject* chunks = attribute(all, types.chunks);
    if (properties == nullptr || chunks == nullptr) return false;
    note_object(properties);
    note_object(chunks);
    Numbers shape;
    PropertyValues values;
    if (!PyList_Check(chunks) || !read_size(attribute(all, types.size), shape) ||
        shape.size() > columns::kMaxDims || !read_properties(properties, values)) {
      return false;
    }
    const py::object source = lazy_columns(chunks);
    const std::size_t count = source ? source.cast<const ChunkColumns&>().size()
                                     : static_cast<std::size_t>(PyList_GET_SIZE(chunks));
    if (!source && !read_list(chunks, shape.size())) return false;
    std::int64_t* numbers =
        saved_.chunks.push(name, columns::WriteKind::kShard,
                           properties_.row_of_equal(std::move(values)), shape, count);
    if (!source) {
      std::ranges::copy(read_, numbers);
      return true;
    }
    if (source.cast<const ChunkColumns&>().copy_to(shape.size(), numbers)) return true;
    saved_.chunks.pop();
    return false;
  }

  /// Returns the columns of a lazy list of chunks, or null for any other list.
  static py::object lazy_columns(PyObject* list) {
    if (PyList_CheckExact(list)) return {};
    py::object columns = read_attribute(list, UpstreamTypes::get().columns);
    return columns && py::isinstance<ChunkColumns>(columns) ? columns : py::object();
  }

  bool read_list(PyObject* list, std::size_t ndim) {
    read_.clear();
    Numbers box;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(list); ++at) {
      PyObject* chunk = PyList_GET_ITEM(list, at);
      note_object(chunk);
      box.clear();
      if (!read_exact_chunk(chunk, box) || box.size() != 2 * ndim) return false;
      read_.insert(read_.end(), box.begin(), box.end());
    }
    return true;
  }

  void note_object(PyObject* object) { shared_ = shared_ || !seen_.insert(object).second; }

  SavedMetadata saved_;
  Numbers read_;
  PropertyTable properties_;
  std::unordered_set<PyObject*> seen_;
  bool shared_ = false;
};

}  // namespace

py::dict SavedMetadata::entries(const std::shared_ptr<const SavedMetadata>& saved,
                                const py::object& fill) {
  const CollectorPause pause;
  const auto bytes = py::reinterpret_borrow<py::object>(
      reinterpret_cast<PyObject*>(UpstreamTypes::get().bytes_metadata));
  const columns::SaveTable& table = saved->chunks.table;
  py::dict made;
  std::size_t objects = 0;
  for (std::size_t entry = 0; entry < saved->chunks.size(); ++entry) {
    const std::uint32_t spec = table.spec[entry];
    const columns::WriteKind kind = table.specs.kind[spec];
    py::object value;
    if (kind == columns::WriteKind::kObject) {
      value = saved->objects[objects++];
    } else if (kind == columns::WriteKind::kBytes) {
      value = bytes();
    } else {
      const auto shape = table.specs.shape(spec);
      std::shared_ptr<ChunkColumns> chunks = std::make_shared<SavedChunkList>(saved, entry);
      value = make_tensor_metadata(make_properties(saved->properties[table.specs.properties[spec]]),
                                   make_size(shape.data(), shape.size()), fill(std::move(chunks)));
    }
    made[saved->names[table.name[entry]]] = value;
  }
  return made;
}

std::optional<SavedMetadata> read_saved_metadata(const py::dict& entries) {
  EntryReader reader;
  const py::object kept = checked(PyDict_Copy(entries.ptr()));
  PyObject* name = nullptr;
  PyObject* value = nullptr;
  Py_ssize_t at = 0;
  while (PyDict_Next(kept.ptr(), &at, &name, &value) != 0) {
    if (!reader.add(name, value)) return std::nullopt;
  }
  return reader.take();
}

}  // namespace shardplan::bindings
