#include "bindings/torch/state_dict/save_columns.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "bindings/torch/columns/write_item_reader.h"
#include "bindings/torch/state_dict/checkpoint_protocol.h"
#include "bindings/torch/state_dict/checkpointable_tensor_reader.h"
#include "bindings/torch/state_dict/dtensor_reader.h"
#include "bindings/torch/state_dict/property_table.h"
#include "bindings/torch/state_dict/sharded_tensor_reader.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

/// Returns the items of an object that creates them itself, or null for any other object.
py::object own_write_items(const py::object& fqn, PyObject* object) {
  const py::object create = own_method(object, UpstreamTypes::get().create_write_items);
  return create ? create(fqn, py::handle(object)) : py::object();
}

class SaveReader {
 public:
  explicit SaveReader(py::object upstream_items) : upstream_items_(std::move(upstream_items)) {}

  void add(const py::object& fqn, PyObject* object) {
    if (add_known(fqn, object) == Outcome::kObject) add_object(fqn, object);
  }

  /// Adds a single entry. Returns false if upstream has to answer, for instance because this rank
  /// is not in the mesh of a DTensor.
  bool add_alone(const py::object& fqn, PyObject* object) {
    return add_known(fqn, object) == Outcome::kAdded;
  }

  std::shared_ptr<SavePlanColumns> take() {
    table_.properties = properties_.take();
    auto columns = std::make_shared<SavePlanColumns>();
    columns->table = std::make_shared<const PlanTable>(std::move(table_));
    columns->rows = std::make_shared<PlanRows>();
    columns->rows->columns = std::move(rows_);
    if (!chunk_indices_.empty()) {
      chunk_indices_.resize(columns->rows->columns.size(), columns::kNoChunkIndex);
      columns->chunk_indices =
          std::make_shared<const std::vector<std::int64_t>>(std::move(chunk_indices_));
    }
    if (object_items_.empty()) return columns;
    return with_items(*columns, object_items_);
  }

 private:
  enum class Outcome { kAdded, kSkipped, kObject };

  Outcome add_known(const py::object& fqn, PyObject* object) {
    if (!PyUnicode_CheckExact(fqn.ptr())) return Outcome::kObject;
    const auto name = static_cast<std::uint32_t>(table_.names.size());
    const Outcome outcome = add_rows(name, object);
    if (outcome == Outcome::kAdded) table_.names.push_back(fqn);
    return outcome;
  }

  Outcome add_rows(std::uint32_t name, PyObject* object) {
    const UpstreamTypes& types = UpstreamTypes::get();
    if (Py_TYPE(object) == types.dtensor) return add_dtensor(name, object);
    if (Py_TYPE(object) == types.sharded_tensor) return add_sharded_tensor(name, object);
    if (is_plain_tensor(object)) return add_tensor(name, object);
    if (!is_plain_value(object) && !is_object_to_pickle(object)) {
      return add_checkpointable_tensor(name, object);
    }
    push_row(columns::WriteKind::kBytes, name, 0, {});
    return Outcome::kAdded;
  }

  Outcome add_dtensor(std::uint32_t name, PyObject* object) {
    const at::Tensor& tensor = tensor_in(object);
    const MeshMembership membership = dtensors_.read(object, tensor);
    if (membership == MeshMembership::kOutside) return Outcome::kSkipped;
    if (membership == MeshMembership::kObject) return Outcome::kObject;
    const at::Tensor& local = tensor_in(dtensors_.local_tensor());
    if (!is_dense(local)) return Outcome::kObject;
    const auto properties = properties_of_local(object, tensor, local);
    if (!properties) return Outcome::kObject;
    push_box(columns::WriteKind::kShard, name, *properties, tensor.sizes(), dtensors_.offsets(),
             dtensors_.sizes());
    return Outcome::kAdded;
  }

  /// Adds a local tensor that is one shard of a global tensor. Upstream's items of several shards
  /// share one TensorProperties, which columns do not express.
  Outcome add_checkpointable_tensor(std::uint32_t name, PyObject* object) {
    const auto shards = read_checkpointable_tensor(object);
    if (!shards || shards->shard_count != 1) return Outcome::kObject;
    const auto properties = properties_of_tensor(object);
    if (!properties) return Outcome::kObject;
    push_box(columns::WriteKind::kShard, name, *properties, shards->shape, shards->offsets.data(),
             shards->sizes.data(), 0);
    return Outcome::kAdded;
  }

  std::optional<std::uint32_t> properties_of_tensor(PyObject* object) {
    if (!all_known_) {
      return properties_.row_from_upstream(py::reinterpret_borrow<py::object>(object));
    }
    const at::Tensor& tensor = tensor_in(object);
    return properties_.row_of(tensor, tensor.requires_grad());
  }

  std::optional<std::uint32_t> properties_of_local(PyObject* object, const at::Tensor& dtensor,
                                                   const at::Tensor& local) {
    if (!all_known_) {
      return properties_.row_from_upstream(
          checked(PyObject_CallMethodNoArgs(object, UpstreamTypes::get().to_local)));
    }
    // What `to_local()` returns requires grad as the DTensor does, unless grad mode is off.
    return properties_.row_of(
        local, at::GradMode::is_enabled() ? dtensor.requires_grad() : local.requires_grad());
  }

  Outcome add_tensor(std::uint32_t name, PyObject* object) {
    const at::Tensor& tensor = tensor_in(object);
    if (!is_dense(tensor)) return Outcome::kObject;
    const auto properties = properties_of_tensor(object);
    if (!properties) return Outcome::kObject;
    zeros_.resize(std::max(zeros_.size(), tensor.sizes().size()));
    push_box(columns::WriteKind::kTensor, name, *properties, tensor.sizes(), zeros_.data(),
             tensor.sizes().data());
    return Outcome::kAdded;
  }

  Outcome add_sharded_tensor(std::uint32_t name, PyObject* object) {
    auto reading = read_sharded_tensor(object);
    if (!reading) return Outcome::kObject;
    if (reading->shard_count == 0) return Outcome::kAdded;
    const std::uint32_t properties = properties_.row_of(std::move(reading->properties));
    for (std::size_t shard = 0; shard < reading->shard_count; ++shard) {
      push_box(columns::WriteKind::kShard, name, properties, reading->shape,
               reading->shard_offsets(shard), reading->shard_sizes(shard));
    }
    return Outcome::kAdded;
  }

  void add_object(const py::object& fqn, PyObject* object) {
    py::object items = own_write_items(fqn, object);
    if (!items) items = upstream_items_(fqn, py::handle(object));
    for (const py::handle item : items) {
      if (table_.names.empty()) table_.names.push_back(py::str());
      push_row(columns::WriteKind::kObject, static_cast<std::uint32_t>(table_.names.size() - 1), 0,
               {});
      object_items_.append(item);
    }
  }

  /// Returns true for objects of builtin classes, which are always saved as byte entries.
  static bool is_plain_value(PyObject* object) {
    return object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) ||
           PyFloat_CheckExact(object) || PyUnicode_CheckExact(object) ||
           PyBytes_CheckExact(object) || PyList_CheckExact(object) || PyTuple_CheckExact(object) ||
           PyDict_CheckExact(object);
  }

  /// Returns true for any other object that upstream saves as a byte entry.
  static bool is_object_to_pickle(PyObject* object) {
    const UpstreamTypes& types = UpstreamTypes::get();
    return !read_attribute(object, types.create_write_items) &&
           !is_instance(object, reinterpret_cast<PyObject*>(types.sharded_tensor)) &&
           !is_instance(object, reinterpret_cast<PyObject*>(types.tensor));
  }

  void push_box(columns::WriteKind kind, std::uint32_t name, std::uint32_t properties,
                at::IntArrayRef shape, const std::int64_t* offsets, const std::int64_t* sizes,
                std::int64_t chunk_index = columns::kNoChunkIndex) {
    columns::push_chunk_index(chunk_indices_, rows_.size(), chunk_index);
    std::int64_t* numbers = push_row(kind, name, properties, shape);
    std::copy_n(offsets, shape.size(), numbers);
    std::copy_n(sizes, shape.size(), numbers + shape.size());
  }

  std::int64_t* push_row(columns::WriteKind kind, std::uint32_t name, std::uint32_t properties,
                         at::IntArrayRef shape) {
    const std::span<const std::int64_t> sizes{shape.data(), shape.size()};
    return rows_.push(table_.columns.push_if_new(name, kind, properties, sizes), shape.size());
  }

  py::object upstream_items_;
  PlanTable table_;
  columns::SaveRows rows_;
  std::vector<std::int64_t> chunk_indices_;
  py::list object_items_;
  PropertyTable properties_;
  const bool all_known_ = !UpstreamTypes::get().has_property(PropertyField::kUnknown);
  DTensorReader dtensors_;
  std::vector<std::int64_t> zeros_;
};

}  // namespace

std::shared_ptr<SavePlanColumns> read_state_dict(const py::object& state_dict,
                                                 const py::object& upstream_items) {
  SaveReader reader(upstream_items);
  for_each_entry(state_dict,
                 [&](const py::object& fqn, PyObject* object) { reader.add(fqn, object); });
  return reader.take();
}

std::optional<py::list> write_items(const py::object& fqn, const py::object& object) {
  SaveReader reader{py::none()};
  if (!reader.add_alone(fqn, object.ptr())) return std::nullopt;
  return reader.take()->items();
}

}  // namespace shardplan::bindings
