#pragma once

#include <stdexcept>

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

/// Thrown for a received plan that cannot be decoded. In Python it is `UnreadablePlan`, a
/// ValueError that is pickled as a plain ValueError.
class UnreadablePlan : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Returns the class of `UnreadablePlan` in Python.
inline py::object unreadable_plan_type() {
  static PyObject* const type =
      PyErr_NewException("shardplan._torch.UnreadablePlan", PyExc_ValueError, nullptr);
  return checked(Py_XNewRef(type));
}

}  // namespace shardplan::bindings
