#include "bindings/torch/upstream/item_maker.h"

#include <initializer_list>

#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

struct Attribute {
  PyObject* name;
  PyObject* value;
};

/// Creates an object without attributes, as `object.__new__(cls)` does. Unlike tp_alloc, this
/// reserves inline storage for the attributes, so that they need no dict.
py::object make_bare(PyTypeObject* type) {
  static PyObject* const no_arguments = PyTuple_New(0);
  return checked(PyBaseObject_Type.tp_new(type, no_arguments, nullptr));
}

/// Creates an object with attributes. They are set as `object.__setattr__` does, because upstream's
/// classes are frozen.
py::object make(const UpstreamClass& cls, std::initializer_list<Attribute> attributes) {
  if (!cls.known) {
    py::dict arguments;
    for (const Attribute& attribute : attributes) {
      arguments[py::handle(attribute.name)] = py::handle(attribute.value);
    }
    return py::handle(reinterpret_cast<PyObject*>(cls.type))(**arguments);
  }
  py::object made = make_bare(cls.type);
  for (const Attribute& attribute : attributes) {
    if (PyObject_GenericSetAttr(made.ptr(), attribute.name, attribute.value) != 0) {
      throw py::error_already_set();
    }
  }
  return made;
}

py::object make_index_of(PyObject* fqn, PyObject* offset, PyObject* chunk_index) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (offset == nullptr)
    return make(types.metadata_index, {{types.fqn, fqn}, {types.index, chunk_index}});
  return make(types.metadata_index,
              {{types.fqn, fqn}, {types.index, chunk_index}, {types.offset, offset}});
}

py::object make_chunk_index(std::int64_t chunk_index) {
  return chunk_index == columns::kNoChunkIndex ? py::none()
                                               : checked(PyLong_FromLongLong(chunk_index));
}

/// Returns the value of a field for one item. Strides are copied, because upstream creates a new
/// tuple for each item.
py::object value_for_item(PropertyField field, const py::object& value) {
  if (field != PropertyField::kStrides || !PyTuple_CheckExact(value.ptr())) return value;
  py::tuple copy(PyTuple_GET_SIZE(value.ptr()));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value.ptr()); ++i) {
    copy[static_cast<std::size_t>(i)] = py::handle(PyTuple_GET_ITEM(value.ptr(), i));
  }
  return copy;
}

py::object make_read_item(PyObject* type, const py::object& dest_index,
                          const py::object& dest_offsets, const py::object& storage_index,
                          const py::object& storage_offsets, const py::object& lengths) {
  const UpstreamTypes& types = UpstreamTypes::get();
  return make(types.read_item, {{types.type, type},
                                {types.dest_index, dest_index.ptr()},
                                {types.dest_offsets, dest_offsets.ptr()},
                                {types.storage_index, storage_index.ptr()},
                                {types.storage_offsets, storage_offsets.ptr()},
                                {types.lengths, lengths.ptr()}});
}

py::object make_read_item(const columns::ReadColumns& rows, const ReadTables& tables,
                          std::size_t row) {
  const UpstreamTypes& types = UpstreamTypes::get();
  PyObject* fqn = tables.names[rows.name[row]].ptr();
  if (rows.kind[row] == columns::ReadKind::kBytes) {
    const std::int64_t zero = 0;
    return make_read_item(types.read_bytes, make_index_of(fqn, nullptr, Py_None),
                          make_size(&zero, 1), make_index_of(fqn, nullptr, Py_None),
                          make_size(&zero, 1), make_size(&zero, 1));
  }
  const std::size_t ndim = rows.ndim[row];
  const std::int64_t* numbers = rows.numbers.data() + rows.first[row];
  const py::object wanted = checked(PyLong_FromSize_t(rows.wanted[row]));
  const py::object saved = checked(PyLong_FromSize_t(rows.saved[row]));
  const py::object wanted_start = make_size(numbers, ndim);
  const py::object saved_start = make_size(numbers + ndim, ndim);
  return make_read_item(types.read_tensor, make_index_of(fqn, wanted_start.ptr(), wanted.ptr()),
                        make_size(numbers + 2 * ndim, ndim),
                        make_index_of(fqn, saved_start.ptr(), saved.ptr()),
                        make_size(numbers + 3 * ndim, ndim), make_size(numbers + 4 * ndim, ndim));
}

}  // namespace

PyObject* make_int(std::int64_t number) {
  // Boxes of one tensor have many equal numbers, which can share an int.
  static constexpr std::size_t kCached = 1024;
  static PyObject* cached[kCached] = {};
  static std::int64_t numbers[kCached] = {};
  const std::size_t slot = (static_cast<std::uint64_t>(number) * 0x9E3779B97F4A7C15ULL) >> 54;
  if (cached[slot] == nullptr || numbers[slot] != number) {
    PyObject* made = PyLong_FromLongLong(number);
    if (made == nullptr) throw py::error_already_set();
    Py_XDECREF(cached[slot]);
    cached[slot] = made;
    numbers[slot] = number;
  }
  return Py_NewRef(cached[slot]);
}

py::object make_size(const std::int64_t* numbers, std::size_t ndim) {
  py::object made = new_size(ndim);
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    PyTuple_SET_ITEM(made.ptr(), static_cast<Py_ssize_t>(dim), make_int(numbers[dim]));
  }
  // A size of ints cannot be part of a reference cycle, so the collector need not track it.
  PyObject_GC_UnTrack(made.ptr());
  return made;
}

py::object make_chunk(const std::int64_t* offsets, const std::int64_t* sizes, std::size_t ndim) {
  return make_chunk(make_size(offsets, ndim), make_size(sizes, ndim));
}

py::object make_chunk(const py::object& offsets, const py::object& sizes) {
  const UpstreamTypes& types = UpstreamTypes::get();
  return make(types.chunk, {{types.offsets, offsets.ptr()}, {types.sizes, sizes.ptr()}});
}

py::object make_properties(const PropertyValues& values) {
  const UpstreamTypes& types = UpstreamTypes::get();
  py::object made = make_bare(types.tensor_properties.type);
  for (std::size_t field = 0; field < values.size(); ++field) {
    const py::object value = value_for_item(types.property_fields[field], values[field]);
    if (PyObject_GenericSetAttr(made.ptr(), types.property_names[field], value.ptr()) != 0) {
      throw py::error_already_set();
    }
  }
  return made;
}

py::object make_tensor_data(const py::object& chunk, const py::object& properties,
                            const py::object& size) {
  const UpstreamTypes& types = UpstreamTypes::get();
  return make(types.tensor_write_data, {{types.chunk_name, chunk.ptr()},
                                        {types.properties, properties.ptr()},
                                        {types.size, size.ptr()}});
}

py::object make_tensor_metadata(const py::object& properties, const py::object& size,
                                const py::object& chunks) {
  const UpstreamTypes& types = UpstreamTypes::get();
  return make(types.tensor_storage, {{types.properties, properties.ptr()},
                                     {types.size, size.ptr()},
                                     {types.chunks, chunks.ptr()}});
}

py::object make_index(PyObject* fqn, const std::int64_t* offset, std::size_t ndim,
                      std::int64_t chunk_index) {
  return make_index_of(fqn, make_size(offset, ndim).ptr(), make_chunk_index(chunk_index).ptr());
}

py::object make_index(PyObject* fqn, std::int64_t chunk_index) {
  return make_index_of(fqn, nullptr, make_chunk_index(chunk_index).ptr());
}

py::object make_storage_info(const py::object& path, std::int64_t offset, std::int64_t length) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object offset_object = checked(PyLong_FromLongLong(offset));
  const py::object length_object = checked(PyLong_FromLongLong(length));
  return make(types.storage_info, {{types.relative_path, path.ptr()},
                                   {types.offset, offset_object.ptr()},
                                   {types.length, length_object.ptr()}});
}

py::object make_write_result(const py::object& index, std::int64_t size_in_bytes,
                             const py::object& storage_data) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object size_object = checked(PyLong_FromLongLong(size_in_bytes));
  return make(types.write_result, {{types.index, index.ptr()},
                                   {types.size_in_bytes, size_object.ptr()},
                                   {types.storage_data, storage_data.ptr()}});
}

py::object make_write_item(columns::WriteKind kind, const py::object& index,
                           const py::object& tensor_data) {
  const UpstreamTypes& types = UpstreamTypes::get();
  PyObject* type = kind == columns::WriteKind::kBytes    ? types.write_bytes
                   : kind == columns::WriteKind::kTensor ? types.write_tensor
                                                         : types.write_shard;
  return make(types.write_item, {{types.index, index.ptr()},
                                 {types.type, type},
                                 {types.bytes_io_data, Py_None},
                                 {types.tensor_data, tensor_data.ptr()}});
}

py::object make_read_item_at(const columns::ReadColumns& rows, const ReadTables& tables,
                             std::size_t row) {
  return rows.kind[row] == columns::ReadKind::kObject ? tables.objects[rows.name[row]]
                                                      : make_read_item(rows, tables, row);
}

py::list make_read_items(const columns::ReadColumns& rows, const ReadTables& tables) {
  const CollectorPause pause;
  py::list items(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    py::object item = make_read_item_at(rows, tables, row);
    PyList_SET_ITEM(items.ptr(), static_cast<Py_ssize_t>(row), item.release().ptr());
  }
  return items;
}

}  // namespace shardplan::bindings
