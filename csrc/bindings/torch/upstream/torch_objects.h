#pragma once

#include "bindings/common/python_object.h"

namespace at {
class Tensor;
}

namespace shardplan::bindings {

// What needs torch's headers of Python objects, which cost more to compile than all the others:
// they are included by one file.

/// The tensor in `object`, which is a torch.Tensor or of a subclass; it lives as long as `object`.
const at::Tensor& tensor_in(PyObject* object);

/// A torch.Size of `ndim` items that the caller sets.
py::object new_size(std::size_t ndim);

}  // namespace shardplan::bindings
