#include "bindings/torch/state_dict/load_columns.h"

#include <ATen/core/Tensor.h>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/state_dict/checkpoint_protocol.h"
#include "bindings/torch/state_dict/checkpointable_tensor_reader.h"
#include "bindings/torch/state_dict/dtensor_reader.h"
#include "bindings/torch/state_dict/sharded_tensor_reader.h"
#include "bindings/torch/upstream/chunk_reader.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/upstream/types.h"
#include "core/planning/read_plan.h"

namespace shardplan::bindings {
namespace {

class LoadReader {
 public:
  LoadReader(const py::dict& metadata, bool strict, const py::object& upstream_items)
      : metadata_(metadata), strict_(strict), upstream_items_(upstream_items) {}

  void add(const py::object& fqn, PyObject* object) {
    own_chunks_ = {};
    const auto saved =
        py::reinterpret_borrow<py::object>(PyDict_GetItemWithError(metadata_.ptr(), fqn.ptr()));
    if (!saved) {
      if (PyErr_Occurred() != nullptr) throw py::error_already_set();
      if (strict_) add_object(fqn, object);
      return;
    }
    const auto name = static_cast<std::uint32_t>(columns_.tables.names.size());
    if (!PyUnicode_CheckExact(fqn.ptr()) || !add_known(name, saved.ptr(), object)) {
      add_object(fqn, object);
      return;
    }
    columns_.tables.names.push_back(fqn);
  }

  LoadPlanColumns take() { return std::move(columns_); }

 private:
  bool add_known(std::uint32_t name, PyObject* saved, PyObject* object) {
    const UpstreamTypes& types = UpstreamTypes::get();
    if (Py_TYPE(saved) == types.bytes_metadata) return add_bytes(name, object);
    if (Py_TYPE(saved) != types.tensor_metadata) return false;
    if (Py_TYPE(object) == types.dtensor) {
      const at::Tensor& tensor = tensor_in(object);
      if (!size_matches(saved, tensor)) return false;
      const MeshMembership membership = dtensors_.read(object, tensor);
      if (membership != MeshMembership::kHolds) return membership == MeshMembership::kOutside;
      boxes::Boxes wanted(tensor.sizes().size());
      return wanted.push(dtensors_.offsets(), dtensors_.sizes()) && add_reads(name, saved, wanted);
    }
    if (Py_TYPE(object) == types.sharded_tensor) return add_sharded_tensor(name, saved, object);
    if (!is_plain_tensor(object)) {
      const auto shards = read_checkpointable_tensor(object);
      return shards ? size_matches(saved, shards->shape) && add_shards(name, saved, *shards)
                    : add_own_chunks(name, saved, object);
    }
    const at::Tensor& tensor = tensor_in(object);
    if (!size_matches(saved, tensor)) return false;
    boxes::Boxes wanted(tensor.sizes().size());
    const std::vector<std::int64_t> zeros(wanted.ndim());
    return wanted.push(zeros.data(), tensor.sizes().data()) && add_reads(name, saved, wanted);
  }

  bool add_bytes(std::uint32_t name, PyObject* object) {
    if (Py_TYPE(object) == UpstreamTypes::get().dtensor) {
      const MeshMembership membership = dtensors_.membership(object);
      if (membership != MeshMembership::kHolds) return membership == MeshMembership::kOutside;
    }
    columns_.rows.push(columns::ReadKind::kBytes, name);
    return true;
  }

  /// Adds the reads of an object that lists its chunks itself.
  bool add_own_chunks(std::uint32_t name, PyObject* saved, PyObject* object) {
    const UpstreamTypes& types = UpstreamTypes::get();
    const py::object create = own_method(object, types.create_chunk_list);
    if (!create || !has_size_of(saved, object)) return false;
    py::object chunks;
    try {
      chunks = create();
    } catch (py::error_already_set& raised) {
      // Upstream raises another error from a ValueError.
      if (!raised.matches(PyExc_ValueError)) throw;
      return false;
    }
    own_chunks_ = chunks;
    if (!PyList_CheckExact(chunks.ptr())) return false;
    if (PyList_GET_SIZE(chunks.ptr()) == 0) return true;
    std::size_t ndim = 0;
    if (!read_ndim(list_item(chunks.ptr(), 0).ptr(), ndim)) return false;
    boxes::Boxes wanted(ndim);
    return append_chunks(chunks.ptr(), wanted) && add_reads(name, saved, wanted);
  }

  /// Returns false if upstream would find that the sizes of a saved tensor and an object differ.
  static bool has_size_of(PyObject* saved, PyObject* object) {
    const UpstreamTypes& types = UpstreamTypes::get();
    const py::object size = read_attribute(object, types.size);
    if (!size || size.is_none()) return true;
    return !read_attribute(saved, types.size).not_equal(size());
  }

  bool add_sharded_tensor(std::uint32_t name, PyObject* saved, PyObject* object) {
    const auto reading = read_sharded_tensor(object);
    if (!reading) return false;
    // Upstream calls size() here, which may emit a warning.
    checked(PyObject_CallMethodNoArgs(object, UpstreamTypes::get().size));
    return size_matches(saved, reading->shape) && add_shards(name, saved, *reading);
  }

  bool add_shards(std::uint32_t name, PyObject* saved, const LocalShards& shards) {
    boxes::Boxes wanted(shards.shape.size());
    for (std::size_t shard = 0; shard < shards.shard_count; ++shard) {
      if (!wanted.push(shards.shard_offsets(shard), shards.shard_sizes(shard))) return false;
    }
    return wanted.empty() || add_reads(name, saved, wanted);
  }

  static bool size_matches(PyObject* saved, const at::Tensor& tensor) {
    return is_dense(tensor) && size_matches(saved, tensor.sizes());
  }

  static bool size_matches(PyObject* saved, at::IntArrayRef shape) {
    const UpstreamTypes& types = UpstreamTypes::get();
    const py::object size = read_attribute(saved, types.size);
    if (!size || Py_TYPE(size.ptr()) != types.torch_size) return false;
    std::vector<std::int64_t> numbers(shape.size());
    return read_tuple(size.ptr(), shape.size(), numbers.data()) && shape.equals(numbers);
  }

  bool add_reads(std::uint32_t name, PyObject* saved, const boxes::Boxes& wanted) {
    const py::object chunks = read_attribute(saved, UpstreamTypes::get().chunks);
    boxes::Boxes boxes(wanted.ndim());
    return chunks && append_chunks(chunks.ptr(), boxes) &&
           planning::append_reads(name, boxes, wanted, columns_.rows);
  }

  void add_object(const py::object& fqn, PyObject* object) {
    const py::object items = own_chunks_ ? upstream_items_(fqn, py::handle(object), own_chunks_)
                                         : upstream_items_(fqn, py::handle(object));
    for (const py::handle item : items) {
      columns_.rows.push(columns::ReadKind::kObject,
                         static_cast<std::uint32_t>(columns_.tables.objects.size()));
      columns_.tables.objects.push_back(py::reinterpret_borrow<py::object>(item));
    }
  }

  const py::dict& metadata_;
  bool strict_;
  const py::object& upstream_items_;
  LoadPlanColumns columns_;
  DTensorReader dtensors_;
  py::object own_chunks_;  // what the current object has listed; null if it was not asked
};

}  // namespace

LoadPlanColumns read_state_dict(const py::object& state_dict, const py::dict& state_dict_metadata,
                                bool strict, const py::object& upstream_items) {
  LoadReader reader(state_dict_metadata, strict, upstream_items);
  for_each_entry(state_dict,
                 [&](const py::object& fqn, PyObject* object) { reader.add(fqn, object); });
  return reader.take();
}

std::optional<LoadPlanColumns> read_chunk_lists(const py::object& fqn, const py::object& chunks,
                                                const py::object& local_chunks) {
  LoadPlanColumns columns;
  if (!PyList_CheckExact(chunks.ptr()) || !PyList_CheckExact(local_chunks.ptr())) {
    return std::nullopt;
  }
  if (PyList_GET_SIZE(chunks.ptr()) == 0 || PyList_GET_SIZE(local_chunks.ptr()) == 0) {
    return columns;
  }
  std::size_t ndim = 0;
  if (!read_ndim(list_item(local_chunks.ptr(), 0).ptr(), ndim)) return std::nullopt;
  boxes::Boxes saved(ndim);
  boxes::Boxes wanted(ndim);
  if (!append_chunks(chunks.ptr(), saved) || !append_chunks(local_chunks.ptr(), wanted) ||
      !planning::append_reads(0, saved, wanted, columns.rows)) {
    return std::nullopt;
  }
  columns.tables.names.push_back(fqn);
  return columns;
}

}  // namespace shardplan::bindings
