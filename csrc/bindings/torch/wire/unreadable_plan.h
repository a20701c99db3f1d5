#pragma once

#include <stdexcept>

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

/// A plan, or part of one, that another rank sent and that cannot be read here. In Python it is
/// `UnreadablePlan`, a ValueError, which pickles as a plain ValueError.
class UnreadablePlan : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Its class in Python.
inline py::object unreadable_plan_type() {
  static PyObject* const type =
      PyErr_NewException("shardplan._torch.UnreadablePlan", PyExc_ValueError, nullptr);
  return checked(Py_XNewRef(type));
}

}  // namespace shardplan::bindings
