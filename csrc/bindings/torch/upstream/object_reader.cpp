#include "bindings/torch/upstream/object_reader.h"

namespace shardplan::bindings {

py::object attributes_of(PyObject* object, const UpstreamClass& cls, Py_ssize_t count) {
  if (object == nullptr || Py_TYPE(object) != cls.type || !cls.known) return {};
  py::object found = checked(PyObject_GenericGetDict(object, nullptr));
  if (PyDict_GET_SIZE(found.ptr()) != count) return {};
  return found;
}

PyObject* attribute(const py::object& attributes, PyObject* name) {
  return PyDict_GetItemWithError(attributes.ptr(), name);
}

bool read_size(PyObject* size, Numbers& out) {
  if (size == nullptr || Py_TYPE(size) != UpstreamTypes::get().torch_size) return false;
  for (Py_ssize_t dim = 0; dim < PyTuple_GET_SIZE(size); ++dim) {
    PyObject* number = PyTuple_GET_ITEM(size, dim);
    if (!PyLong_CheckExact(number) || !read_int(number, out.emplace_back())) return false;
  }
  return true;
}

bool read_upstream_index(PyObject* index, UpstreamIndex& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (index == nullptr || Py_TYPE(index) != types.metadata_index.type) return false;
  const py::object all = checked(PyObject_GenericGetDict(index, nullptr));
  out.name = py::reinterpret_borrow<py::object>(attribute(all, types.fqn));
  PyObject* number = attribute(all, types.index);
  PyObject* offset = attribute(all, types.offset);
  if (!out.name || !PyUnicode_CheckExact(out.name.ptr()) || number == nullptr) return false;
  if (PyDict_GET_SIZE(all.ptr()) != (offset == nullptr ? 2 : 3)) return false;
  if (number != Py_None) {
    if (!PyLong_CheckExact(number) || !read_int(number, out.chunk_index.emplace()) ||
        *out.chunk_index < 0) {
      return false;
    }
  }
  return offset == nullptr || read_size(offset, out.offset.emplace());
}

bool read_properties(PyObject* object, PropertyValues& out) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const auto count = static_cast<Py_ssize_t>(types.property_names.size());
  const py::object all = attributes_of(object, types.tensor_properties, count);
  if (!all) return false;
  for (PyObject* name : types.property_names) {
    PyObject* value = attribute(all, name);
    if (value == nullptr) return false;
    out.push_back(py::reinterpret_borrow<py::object>(value));
  }
  return true;
}

}  // namespace shardplan::bindings
