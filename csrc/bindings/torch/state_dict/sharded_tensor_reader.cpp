#include "bindings/torch/state_dict/sharded_tensor_reader.h"

#include "bindings/torch/upstream/types.h"

namespace shardplan {
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
  const StockTypes& stock = StockTypes::get();
  const py::object metadata = read_attribute(shard, stock.metadata);
  if (!metadata) return false;
  const py::object offsets = read_attribute(metadata.ptr(), stock.shard_offsets);
  const py::object sizes = read_attribute(metadata.ptr(), stock.shard_sizes);
  if (!offsets || !sizes || !append_list(offsets.ptr(), out.shape.size(), out.offsets) ||
      !append_list(sizes.ptr(), out.shape.size(), out.sizes)) {
    return false;
  }
  ++out.shard_count;
  return true;
}

/// As upstream's `_sharded_tensor_metadata` makes the properties of a shard.
bool read_shard_properties(PyObject* metadata, PropertyValues& out) {
  const StockTypes& stock = StockTypes::get();
  const py::object properties = read_attribute(metadata, stock.tensor_properties_name);
  if (!properties) return false;
  py::object defaults;  // Upstream does not pass the fields that are unknown here.
  if (stock.has_property(PropertyField::kUnknown)) {
    defaults =
        checked(PyObject_CallNoArgs(reinterpret_cast<PyObject*>(stock.tensor_properties.type)));
  }
  for (std::size_t field = 0; field < stock.property_names.size(); ++field) {
    const bool known = stock.property_fields[field] != PropertyField::kUnknown;
    py::object value =
        read_attribute((known ? properties : defaults).ptr(), stock.property_names[field]);
    if (!value) return false;
    out.push_back(std::move(value));
  }
  return true;
}

}  // namespace

std::optional<ShardedTensorReading> read_sharded_tensor(PyObject* object) {
  const StockTypes& stock = StockTypes::get();
  if (Py_TYPE(object) != stock.sharded_tensor) return std::nullopt;
  const py::object metadata = checked(PyObject_CallMethodNoArgs(object, stock.metadata));
  const py::object shards = checked(PyObject_CallMethodNoArgs(object, stock.local_shards));
  const py::object size = read_attribute(metadata.ptr(), stock.size);
  ShardedTensorReading reading;
  if (!size || Py_TYPE(size.ptr()) != stock.torch_size || !PyList_CheckExact(shards.ptr())) {
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

}  // namespace shardplan
