#include "bindings/torch/upstream/torch_objects.h"

#include <torch/csrc/Size.h>
#include <torch/csrc/autograd/python_variable.h>

namespace shardplan::bindings {

const at::Tensor& tensor_in(PyObject* object) {
  return THPVariable_Unpack(object);
}

py::object new_size(std::size_t ndim) {
  return checked(THPSizeType.tp_alloc(&THPSizeType, static_cast<Py_ssize_t>(ndim)));
}

}  // namespace shardplan::bindings
