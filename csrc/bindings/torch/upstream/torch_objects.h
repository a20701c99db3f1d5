#pragma once

#include "bindings/common/python_object.h"

namespace at {
class Tensor;
}

namespace shardplan::bindings {

// Functions that need torch's headers for Python objects. Only one file includes these headers,
// because they take longer to compile than all others.

/// Returns the tensor of a torch.Tensor or a subclass. It lives as long as `object`.
const at::Tensor& tensor_in(PyObject* object);

/// Creates a torch.Size of `ndim` items. The caller must set them.
py::object new_size(std::size_t ndim);

}  // namespace shardplan::bindings
