#include "bindings/torch/data/tensor_finder.h"

#include <c10/core/impl/TorchDispatchModeTLS.h>

#include <algorithm>

#include "bindings/torch/state_dict/checkpointable_tensor_reader.h"
#include "bindings/torch/upstream/item_maker.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

at::Tensor TensorFinder::find(const py::object& fqn, std::span<const std::int64_t> offset,
                              std::int64_t chunk_index) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object object = entry(fqn);
  if (!object) return {};
  if (Py_TYPE(object.ptr()) == types.dtensor) {
    const at::Tensor& whole = tensor_in(object.ptr());
    if (dtensors_.read(object.ptr(), whole) != MeshMembership::kHolds) return {};
    return tensor_in(dtensors_.local_tensor());
  }
  if (is_plain_tensor(object.ptr())) {
    const at::Tensor& tensor = tensor_in(object.ptr());
    const bool is_origin = std::ranges::all_of(offset, [](std::int64_t at) { return at == 0; });
    return is_origin && static_cast<std::int64_t>(offset.size()) == tensor.dim() ? tensor
                                                                                 : at::Tensor();
  }
  if (Py_TYPE(object.ptr()) != types.sharded_tensor && !read_checkpointable_tensor(object.ptr())) {
    return {};
  }
  const py::object shard =
      lookup_(make_index(fqn.ptr(), offset.data(), offset.size(), chunk_index));
  return is_plain_tensor(shard.ptr()) ? tensor_in(shard.ptr()) : at::Tensor();
}

py::object TensorFinder::entry(const py::object& fqn) const {
  if (!PyDict_CheckExact(state_dict_.ptr())) return {};
  PyObject* object = PyDict_GetItemWithError(state_dict_.ptr(), fqn.ptr());
  if (object == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return py::reinterpret_borrow<py::object>(object);
}

bool dispatch_mode_is_active() {
  return c10::impl::TorchDispatchModeTLS::any_modes_set();
}

}  // namespace shardplan::bindings
