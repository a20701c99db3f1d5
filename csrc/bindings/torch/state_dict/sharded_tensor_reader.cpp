#include "bindings/torch/state_dict/sharded_tensor_reader.h"

#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

bool append_list(PyObject* list, std::size_t ndim, std::vector<std::int64_t>& out) {
  if (!PyList_CheckExact(list) || static_cast<std::size_t>(PyList_GET_SIZE(list)) != ndim) {
    return false;
  }
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    std::int64_t number = 0;
    if (!read_int(PyList_GET_ITEM(list, static_cast<Py_ssize_t>(dim)), number)) return false;
    out.push_back(number);
  }
  return true;
}

bool append_shard(PyObject* shard, ShardedTensorReading& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object metadata = read_attribute(shard, types.metadata);
  if (!metadata) return false;
  const py::object offsets = read_attribute(metadata.ptr(), types.shard_offsets);
  const py::object sizes = read_attribute(metadata.ptr(), types.shard_sizes);
  if (!offsets || !sizes || !append_list(offsets.ptr(), out.shape.size(), out.offsets) ||
      !append_list(sizes.ptr(), out.shape.size(), out.sizes)) {
    return false;
  }
  ++out.shard_count;
  return true;
}

/// Reads the properties of a shard, as upstream's `_sharded_tensor_metadata` does.
bool read_shard_properties(PyObject* metadata, PropertyValues& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object properties = read_attribute(metadata, types.tensor_properties_name);
  if (!properties) return false;
  py::object defaults;  // Upstream leaves unknown fields at their defaults.
  if (types.has_property(PropertyField::kUnknown)) {
    defaults =
        checked(PyObject_CallNoArgs(reinterpret_cast<PyObject*>(types.tensor_properties.type)));
  }
  for (std::size_t field = 0; field < types.property_names.size(); ++field) {
    const bool known = types.property_fields[field] != PropertyField::kUnknown;
    py::object value =
        read_attribute((known ? properties : defaults).ptr(), types.property_names[field]);
    if (!value) return false;
    out.push_back(std::move(value));
  }
  return true;
}

}  // namespace

std::optional<ShardedTensorReading> read_sharded_tensor(PyObject* object) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (Py_TYPE(object) != types.sharded_tensor) return std::nullopt;
  const py::object metadata = checked(PyObject_CallMethodNoArgs(object, types.metadata));
  const py::object shards = checked(PyObject_CallMethodNoArgs(object, types.local_shards));
  const py::object size = read_attribute(metadata.ptr(), types.size);
  ShardedTensorReading reading;
  if (!size || Py_TYPE(size.ptr()) != types.torch_size || !PyList_CheckExact(shards.ptr())) {
    return std::nullopt;
  }
  reading.shape.resize(static_cast<std::size_t>(PyTuple_GET_SIZE(size.ptr())));
  if (!read_tuple(size.ptr(), reading.shape.size(), reading.shape.data()) ||
      !read_shard_properties(metadata.ptr(), reading.properties)) {
    return std::nullopt;
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(shards.ptr()); ++i) {
    if (!append_shard(list_item(shards.ptr(), i).ptr(), reading)) return std::nullopt;
  }
  return reading;
}

}  // namespace shardplan::bindings
