#pragma once

#include "bindings/common/python_object.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

/// Returns the bound method of an object that plans its own checkpoint, or null if upstream would
/// not call it: upstream asks every object but DTensors.
///
/// name: `__create_write_items__` or `__create_chunk_list__`
inline py::object own_method(PyObject* object, PyObject* name) {
  py::object method = read_attribute(object, name);
  if (!method) return {};
  PyObject* dtensor = reinterpret_cast<PyObject*>(UpstreamTypes::get().dtensor);
  return is_instance(object, dtensor) ? py::object() : method;
}

}  // namespace shardplan::bindings
