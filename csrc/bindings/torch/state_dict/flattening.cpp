#include "bindings/torch/state_dict/flattening.h"

#include <unordered_set>

#include "bindings/torch/state_dict/state_dict_walk.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

using Path = StateDictWalk::Path;

/// Returns the steps of a path as a tuple.
py::tuple tuple_of(const Path& path) {
  py::tuple all(path.size());
  for (std::size_t at = 0; at < path.size(); ++at) all[at] = path[at];
  return all;
}

/// Returns the steps of a path, joined by dots.
py::object name_of(const Path& path, const py::tuple& steps) {
  static PyObject* const dot = PyUnicode_InternFromString(".");
  bool are_strings = true;
  for (const py::object& step : path) are_strings &= PyUnicode_CheckExact(step.ptr()) != 0;
  if (are_strings) return checked(PyUnicode_Join(dot, steps.ptr()));
  py::tuple texts(path.size());
  for (std::size_t at = 0; at < path.size(); ++at) {
    texts[at] = checked(PyObject_Str(path[at].ptr()));
  }
  return checked(PyUnicode_Join(dot, texts.ptr()));
}

void set_item(const py::object& dict, const py::object& key, const py::object& value) {
  if (PyDict_SetItem(dict.ptr(), key.ptr(), value.ptr()) != 0) throw py::error_already_set();
}

/// Returns the item of a dict, or null.
py::object find_item(const py::object& dict, const py::object& key) {
  PyObject* const found = PyDict_GetItemWithError(dict.ptr(), key.ptr());
  if (found == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return py::reinterpret_borrow<py::object>(found);
}

/// Thrown if only upstream's function can copy a state dict.
struct NoNativeAnswer {};

/// Nested dicts and lists, to which values are added by path (`set_element`).
class NestedCopy {
 public:
  void add(const Path& path, const py::object& value) {
    py::object container = root_;
    for (std::size_t at = 0; at + 1 < path.size(); ++at) {
      container = container_in(container, path[at], is_key(path[at + 1]));
    }
    put(container, path.back(), value);
  }

  py::object take() { return std::move(root_); }

 private:
  static bool is_key(const py::object& step) { return PyUnicode_Check(step.ptr()) != 0; }

  /// Returns the dict or list at a step, which is created if it is missing.
  py::object container_in(const py::object& parent, const py::object& step, bool is_dict) {
    py::object found;
    if (PyDict_CheckExact(parent.ptr())) {
      found = find_item(parent, step);
    } else if (const auto index = static_cast<std::size_t>(PyLong_AsSize_t(step.ptr()));
               index < py::len(parent)) {
      found = list_item(parent.ptr(), static_cast<Py_ssize_t>(index));
      if (found.is_none()) found = py::object();
    }
    if (found) {
      // A value of the state dict, or a list where a dict is wanted: two values have one path.
      if (!created_.contains(found.ptr()) || PyDict_CheckExact(found.ptr()) != (is_dict ? 1 : 0)) {
        throw NoNativeAnswer();
      }
      return found;
    }
    found = is_dict ? py::object(py::dict()) : py::object(py::list());
    created_.insert(found.ptr());
    put(parent, step, found);
    return found;
  }

  static void put(const py::object& container, const py::object& step, const py::object& value) {
    if (PyDict_CheckExact(container.ptr())) {
      if (find_item(container, step)) throw NoNativeAnswer();
      return set_item(container, step, value);
    }
    const std::size_t index = PyLong_AsSize_t(step.ptr());
    while (py::len(container) <= index) {
      if (PyList_Append(container.ptr(), Py_None) != 0) throw py::error_already_set();
    }
    const py::list list = py::reinterpret_borrow<py::list>(container);
    list[index] = value;
  }

  py::object root_ = py::dict();
  std::unordered_set<PyObject*> created_;  // the containers below the root, which owns them
};

/// Returns whether a value is a ShardedTensor without local shards. Throws NoNativeAnswer if it is
/// one whose only shard is a ShardedTensor.
bool has_no_shard(const py::object& value) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const PyTypeObject* const type = Py_TYPE(value.ptr());
  if (type == types.tensor || type == types.parameter || type == types.dtensor) return false;
  auto* const sharded_tensor = reinterpret_cast<PyObject*>(types.sharded_tensor);
  if (!is_instance(value.ptr(), sharded_tensor)) return false;
  const py::object shards = value.attr("local_shards")();
  if (py::len(shards) != 1) return py::len(shards) == 0;
  const py::object tensor = shards[py::int_(0)].attr("tensor");
  if (is_instance(tensor.ptr(), sharded_tensor)) throw NoNativeAnswer();
  return false;
}

}  // namespace

std::pair<py::dict, py::dict> flatten_state_dict(const py::object& state_dict) {
  py::dict flattened;
  py::dict mappings;
  StateDictWalk().run(state_dict, [&](const Path& path, const py::object& value) {
    const py::tuple steps = tuple_of(path);
    const py::object name = name_of(path, steps);
    if (find_item(flattened, name)) {
      PyErr_Format(PyExc_ValueError, "duplicated flatten key %U", name.ptr());
      throw py::error_already_set();
    }
    set_item(flattened, name, value);
    set_item(mappings, name, steps);
  });
  return {flattened, mappings};
}

py::object copy_state_dict(const py::object& state_dict) {
  NestedCopy copy;
  try {
    StateDictWalk().run(state_dict, [&](const Path& path, const py::object& value) {
      if (!has_no_shard(value)) copy.add(path, value);
    });
  } catch (const NoNativeAnswer&) {
    return py::none();
  }
  return copy.take();
}

}  // namespace shardplan::bindings
