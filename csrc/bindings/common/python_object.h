#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>

namespace shardplan::bindings {

namespace py = pybind11;

/// Reads a Python int that fits int64. Returns false, with no error set, for anything else.
inline bool read_int(PyObject* object, std::int64_t& out) {
  if (!PyLong_Check(object)) return false;
  int overflow = 0;
  out = PyLong_AsLongLongAndOverflow(object, &overflow);
  return overflow == 0;
}

/// Reads a tuple of `ndim` ints, such as a torch.Size. Returns false, with no error set, for
/// anything else.
inline bool read_tuple(PyObject* object, std::size_t ndim, std::int64_t* out) {
  if (!PyTuple_Check(object) || static_cast<std::size_t>(PyTuple_GET_SIZE(object)) != ndim) {
    return false;
  }
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    if (!read_int(PyTuple_GET_ITEM(object, static_cast<Py_ssize_t>(dim)), out[dim])) return false;
  }
  return true;
}

/// Returns an attribute, or null, with no error set, if it is missing.
inline py::object read_attribute(PyObject* object, PyObject* name) {
  PyObject* value = PyObject_GetAttr(object, name);
  if (value == nullptr) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
    PyErr_Clear();
  }
  return py::reinterpret_steal<py::object>(value);
}

/// Returns an owned reference to a list item, so that it survives changes to the list.
inline py::object list_item(PyObject* list, Py_ssize_t index) {
  return py::reinterpret_borrow<py::object>(PyList_GET_ITEM(list, index));
}

/// Takes ownership of a new reference. Throws the Python error if it is null.
inline py::object checked(PyObject* owned) {
  if (owned == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(owned);
}

/// Returns whether an object is an instance of a class, as Python's isinstance does.
inline bool is_instance(PyObject* object, PyObject* cls) {
  const int answer = PyObject_IsInstance(object, cls);
  if (answer < 0) throw py::error_already_set();
  return answer != 0;
}

/// Returns an exception that was raised, with its traceback.
inline py::object exception_of(const py::error_already_set& raised) {
  const py::object exception = raised.value();
  if (raised.trace()) PyException_SetTraceback(exception.ptr(), raised.trace().ptr());
  return exception;
}

/// Calls `visit(fqn, object)` for each entry of a state dict. `visit` must not change the dict.
template <typename Visit>
void for_each_entry(const py::object& state_dict, Visit&& visit) {
  for (const py::handle entry : state_dict.attr("items")()) {
    if (!PyTuple_CheckExact(entry.ptr()) || PyTuple_GET_SIZE(entry.ptr()) != 2) {
      throw py::type_error("items() of a state dict must return pairs");
    }
    visit(py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(entry.ptr(), 0)),
          PyTuple_GET_ITEM(entry.ptr(), 1));
  }
}

/// Disables the garbage collector while many objects are created. Pauses can be nested. Construct
/// and destroy them with the GIL held.
class CollectorPause {
 public:
  CollectorPause() {
    if (depth_++ == 0) was_enabled_ = PyGC_Disable() != 0;
  }
  ~CollectorPause() {
    if (depth_ > 0 && --depth_ == 0 && was_enabled_) PyGC_Enable();
  }
  CollectorPause(const CollectorPause&) = delete;
  CollectorPause& operator=(const CollectorPause&) = delete;

  /// Re-enables the collector in a forked child whose pausing thread does not exist.
  static void end_all() {
    if (depth_ > 0 && was_enabled_) PyGC_Enable();
    depth_ = 0;
  }

 private:
  static inline int depth_ = 0;
  static inline bool was_enabled_ = false;
};

}  // namespace shardplan::bindings
