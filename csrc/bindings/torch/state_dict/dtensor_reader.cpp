#include "bindings/torch/state_dict/dtensor_reader.h"

#include <ATen/core/Tensor.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>

#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

bool carries_protocol(PyObject* object) {
  PyObject** dict = _PyObject_GetDictPtr(object);
  if (dict == nullptr || *dict == nullptr || PyDict_GET_SIZE(*dict) == 0) return false;
  const UpstreamTypes& types = UpstreamTypes::get();
  for (PyObject* name : {types.create_write_items, types.create_chunk_list, types.global_shape}) {
    const int found = PyDict_Contains(*dict, name);
    if (found < 0) throw py::error_already_set();
    if (found > 0) return true;
  }
  return false;
}

bool read_placement(PyObject* object, boxes::Placement& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (Py_TYPE(object) == types.replicate) {
    out = {boxes::Placement::Kind::kReplicate, 0, 1};
    return true;
  }
  const bool strided = Py_TYPE(object) == types.strided_shard;
  if (!strided && Py_TYPE(object) != types.shard) return false;
  out = {strided ? boxes::Placement::Kind::kStridedShard : boxes::Placement::Kind::kShard, 0, 1};
  const py::object dim = read_attribute(object, types.dim);
  if (!dim || !read_int(dim.ptr(), out.dim)) return false;
  if (!strided) return true;
  const py::object split_factor = read_attribute(object, types.split_factor);
  return split_factor && read_int(split_factor.ptr(), out.split_factor);
}

}  // namespace

bool is_plain_tensor(PyObject* object) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (Py_TYPE(object) != types.tensor && Py_TYPE(object) != types.parameter) return false;
  return !carries_protocol(object);
}

bool is_dense(const at::Tensor& tensor) {
  return tensor.layout() == at::kStrided && !tensor.is_nested() &&
         !tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides();
}

// Under a dispatch mode (fake tensors, local tensors), the coordinate of a rank may not be a
// number.
DTensorReader::DTensorReader()
    : enabled_(!c10::impl::TorchDispatchModeTLS::any_modes_set() &&
               UpstreamTypes::get().dtensor_untouched()) {}

const DTensorReader::Mesh& DTensorReader::mesh_of(PyObject* spec) {
  const UpstreamTypes& types = UpstreamTypes::get();
  py::object object = read_attribute(spec, types.mesh);
  Mesh& mesh = meshes_[object.ptr()];
  if (mesh.keep_alive || !object) return mesh;
  const py::object shape = read_attribute(object.ptr(), types.shape);
  const py::object coordinate =
      checked(PyObject_CallMethodNoArgs(object.ptr(), types.get_coordinate));
  mesh.keep_alive = std::move(object);
  if (coordinate.is_none()) {
    mesh.membership = MeshMembership::kOutside;
    return mesh;
  }
  if (!shape || !PyTuple_Check(shape.ptr())) return mesh;
  mesh.shape.resize(static_cast<std::size_t>(PyTuple_GET_SIZE(shape.ptr())));
  mesh.coordinate.resize(mesh.shape.size());
  const py::object coordinates = checked(PySequence_Tuple(coordinate.ptr()));
  if (read_tuple(shape.ptr(), mesh.shape.size(), mesh.shape.data()) &&
      read_tuple(coordinates.ptr(), mesh.shape.size(), mesh.coordinate.data())) {
    mesh.membership = MeshMembership::kHolds;
  }
  return mesh;
}

const DTensorReader::Layout& DTensorReader::layout_of(PyObject* spec) {
  py::object object = read_attribute(spec, UpstreamTypes::get().placements);
  Layout& layout = layouts_[object.ptr()];
  if (layout.keep_alive || !object) return layout;
  if (PyTuple_Check(object.ptr())) {
    layout.plain = true;
    for (Py_ssize_t i = 0; layout.plain && i < PyTuple_GET_SIZE(object.ptr()); ++i) {
      boxes::Placement placement;
      layout.plain = read_placement(PyTuple_GET_ITEM(object.ptr(), i), placement);
      layout.placements.push_back(placement);
    }
  }
  layout.keep_alive = std::move(object);
  return layout;
}

MeshMembership DTensorReader::membership(PyObject* object) {
  const py::object spec = read_attribute(object, UpstreamTypes::get().spec);
  return enabled_ && spec ? mesh_of(spec.ptr()).membership : MeshMembership::kObject;
}

MeshMembership DTensorReader::read(PyObject* object, const at::Tensor& tensor) {
  if (!enabled_ || carries_protocol(object)) return MeshMembership::kObject;
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object spec = read_attribute(object, types.spec);
  if (!spec) return MeshMembership::kObject;
  const Mesh& mesh = mesh_of(spec.ptr());
  if (mesh.membership != MeshMembership::kHolds) return mesh.membership;
  const Layout& layout = layout_of(spec.ptr());
  local_tensor_ = read_attribute(object, types.local_tensor);
  if (!layout.plain || !local_tensor_ || !is_plain_tensor(local_tensor_.ptr()) ||
      !is_dense(tensor)) {
    return MeshMembership::kObject;
  }
  const at::IntArrayRef shape = tensor.sizes();
  offsets_.resize(shape.size());
  sizes_.resize(shape.size());
  return boxes::local_box({shape.data(), shape.size()}, mesh.shape, mesh.coordinate,
                          layout.placements, offsets_.data(), sizes_.data())
             ? MeshMembership::kHolds
             : MeshMembership::kObject;
}

}  // namespace shardplan::bindings
