#include "bindings/torch/state_dict/checkpointable_tensor_reader.h"

#include <ATen/core/Tensor.h>

#include <span>

#include "bindings/torch/state_dict/dtensor_reader.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/upstream/types.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {
namespace {

/// The tuples of the four fields. They are borrowed from the tensor.
struct Fields {
  PyObject* global_shape;
  PyObject* global_offsets;
  PyObject* local_offsets;
  PyObject* local_sizes;
};

/// Returns the tuple of a field, or null if it is absent or anything else.
PyObject* tuple_in(PyObject* dict, PyObject* name) {
  PyObject* value = PyDict_GetItemWithError(dict, name);
  if (value == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return value != nullptr && PyTuple_Check(value) ? value : nullptr;
}

std::optional<Fields> read_fields(PyObject* object) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (Py_TYPE(object) != types.tensor && Py_TYPE(object) != types.parameter) return std::nullopt;
  PyObject** dict = _PyObject_GetDictPtr(object);
  if (dict == nullptr || *dict == nullptr) return std::nullopt;
  for (PyObject* method : {types.create_write_items, types.create_chunk_list}) {
    const int found = PyDict_Contains(*dict, method);
    if (found < 0) throw py::error_already_set();
    if (found > 0) return std::nullopt;
  }
  const Fields fields{tuple_in(*dict, types.global_shape), tuple_in(*dict, types.global_offsets),
                      tuple_in(*dict, types.local_offsets), tuple_in(*dict, types.local_sizes)};
  const bool complete = fields.global_shape != nullptr && fields.global_offsets != nullptr &&
                        fields.local_offsets != nullptr && fields.local_sizes != nullptr;
  return complete ? std::optional(fields) : std::nullopt;
}

}  // namespace

std::optional<LocalShards> read_checkpointable_tensor(PyObject* object) {
  if (!UpstreamTypes::get().has_checkpointable_tensors) return std::nullopt;
  const auto fields = read_fields(object);
  if (!fields || !is_dense(tensor_in(object))) return std::nullopt;
  const at::IntArrayRef local_shape = tensor_in(object).sizes();
  const std::size_t ndim = local_shape.size();
  const Py_ssize_t count = PyTuple_GET_SIZE(fields->global_offsets);
  LocalShards shards;
  shards.shape.resize(ndim);
  if (!read_tuple(fields->global_shape, ndim, shards.shape.data()) ||
      PyTuple_GET_SIZE(fields->local_offsets) != count ||
      PyTuple_GET_SIZE(fields->local_sizes) != count) {
    return std::nullopt;
  }
  shards.shard_count = static_cast<std::size_t>(count);
  shards.offsets.resize(shards.shard_count * ndim);
  shards.sizes.resize(shards.shard_count * ndim);
  std::vector<std::int64_t> local_offset(ndim);
  for (Py_ssize_t shard = 0; shard < count; ++shard) {
    const std::size_t first = static_cast<std::size_t>(shard) * ndim;
    const std::span offset = std::span(shards.offsets).subspan(first, ndim);
    const std::span size = std::span(shards.sizes).subspan(first, ndim);
    if (!read_tuple(PyTuple_GET_ITEM(fields->global_offsets, shard), ndim, offset.data()) ||
        !read_tuple(PyTuple_GET_ITEM(fields->local_offsets, shard), ndim, local_offset.data()) ||
        !read_tuple(PyTuple_GET_ITEM(fields->local_sizes, shard), ndim, size.data()) ||
        !boxes::in_bounds(offset, size, shards.shape) ||
        !boxes::in_bounds(local_offset, size, {local_shape.data(), ndim})) {
      return std::nullopt;
    }
  }
  return shards;
}

}  // namespace shardplan::bindings
