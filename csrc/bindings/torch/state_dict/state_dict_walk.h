#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bindings/common/python_object.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

/// Visits the values of nested mappings and lists in the order of `traverse_state_dict` of
/// torch.distributed.checkpoint._traverse. A list that holds no tensor, mapping or such a list is a
/// value.
class StateDictWalk {
 public:
  /// The keys of mappings, as str, and the indexes of lists, as int, which lead to a value.
  using Path = std::vector<py::object>;

  /// Calls `visit(path, value)` for each value.
  template <typename Visit>
  void run(const py::object& state_dict, const Visit& visit) {
    walk_items(state_dict, visit);
  }

 private:
  /// Limits the depth of recursion as Python does.
  class Depth {
   public:
    Depth() {
      if (Py_EnterRecursiveCall(" while a state dict is flattened") != 0) {
        throw py::error_already_set();
      }
    }
    ~Depth() { Py_LeaveRecursiveCall(); }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
  };

  static bool is_plain(PyTypeObject* type) {
    return type == types().tensor || type == types().parameter || type == types().dtensor ||
           type == &PyFloat_Type || type == &PyLong_Type || type == &PyUnicode_Type ||
           type == &PyBool_Type || type == &PyBytes_Type || type == &PyTuple_Type ||
           type == Py_TYPE(Py_None);
  }

  static bool is_mapping(PyObject* value) {
    if (PyDict_Check(value)) return true;
    if (PyList_CheckExact(value) || is_plain(Py_TYPE(value))) return false;
    return is_instance(value, types().mapping);
  }

  /// Calls `visit` for each object of an iterable, until it returns false.
  template <typename Visit>
  static void each(const py::object& iterable, const Visit& visit) {
    const py::object iterator = checked(PyObject_GetIter(iterable.ptr()));
    while (PyObject* next = PyIter_Next(iterator.ptr())) {
      if (!visit(py::reinterpret_steal<py::object>(next))) return;
    }
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  }

  static bool is_value(PyObject* object) {
    if (is_mapping(object)) return false;
    if (!PyList_Check(object)) return true;
    const Depth depth;
    bool answer = true;
    each(py::reinterpret_borrow<py::object>(object), [&](const py::object& entry) {
      if (is_mapping(entry.ptr()) || (PyList_Check(entry.ptr()) && !is_value(entry.ptr())) ||
          is_tensor(entry.ptr())) {
        answer = false;
      }
      return answer;
    });
    return answer;
  }

  static bool is_tensor(PyObject* value) {
    const PyTypeObject* type = Py_TYPE(value);
    if (type == types().tensor || type == types().parameter || type == types().dtensor) return true;
    if (is_plain(Py_TYPE(value))) return false;
    return is_instance(value, reinterpret_cast<PyObject*>(types().tensor));
  }

  template <typename Visit>
  void walk(const py::object& object, const Visit& visit) {
    const Depth depth;
    if (is_mapping(object.ptr())) {
      walk_items(object, visit);
    } else if (is_value(object.ptr())) {
      visit(path_, object);
    } else {
      Py_ssize_t index = 0;
      each(object, [&](const py::object& entry) {
        walk_into(py::int_(index++), entry, visit);
        return true;
      });
    }
  }

  template <typename Visit>
  void walk_items(const py::object& mapping, const Visit& visit) {
    each(mapping.attr("items")(), [&](const py::object& item) {
      const auto [key, value] = pair_in(item);
      walk_into(checked(PyObject_Str(key.ptr())), value, visit);
      return true;
    });
  }

  template <typename Visit>
  void walk_into(py::object step, const py::object& object, const Visit& visit) {
    path_.push_back(std::move(step));
    walk(object, visit);
    path_.pop_back();
  }

  /// Returns the two objects of an item of a mapping, with Python's errors.
  static std::pair<py::object, py::object> pair_in(const py::object& item) {
    const py::object pair = checked(PySequence_Tuple(item.ptr()));
    const Py_ssize_t size = PyTuple_GET_SIZE(pair.ptr());
    if (size > 2) throw py::value_error("too many values to unpack (expected 2)");
    if (size < 2) {
      throw py::value_error("not enough values to unpack (expected 2, got " + std::to_string(size) +
                            ")");
    }
    return {py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(pair.ptr(), 0)),
            py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(pair.ptr(), 1))};
  }

  static const UpstreamTypes& types() { return UpstreamTypes::get(); }

  Path path_;
};

}  // namespace shardplan::bindings
