#include "bindings/torch/metadata/pickle_objects.h"

#include <utility>

#include "bindings/torch/upstream/item_maker.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "core/pickle/globals.h"
#include "core/util/text.h"

namespace shardplan::bindings {
namespace {

using Tag = pickle::Tag;

constexpr int kMaxDepth = 500;

/// Takes ownership of a new reference. Throws BadPickle if it is null.
py::object steal(PyObject* made, const char* problem) {
  if (made == nullptr) {
    PyErr_Clear();
    throw pickle::BadPickle(problem);
  }
  return py::reinterpret_steal<py::object>(made);
}

py::object bytes_of(const std::string& bytes) {
  return checked(PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}

bool is_text(const py::handle& object) {
  return PyUnicode_CheckExact(object.ptr());
}

bool all_texts(const py::tuple& arguments) {
  for (const py::handle argument : arguments) {
    if (!is_text(argument)) return false;
  }
  return true;
}

std::uint64_t key_of(pickle::Value value) {
  return static_cast<std::uint64_t>(value.tag()) << 56 | value.at();
}

}  // namespace

py::object PickleObjects::object(pickle::Value value) {
  switch (value.tag()) {
    case Tag::kNone: return py::none();
    case Tag::kFalse: return py::bool_(false);
    case Tag::kTrue: return py::bool_(true);
    case Tag::kInt:
    case Tag::kWideInt:
    case Tag::kHugeInt: return make_int(value);
    case Tag::kText: return text(value.at());
    case Tag::kGlobal: return global(static_cast<std::uint32_t>(value.at()));
    default: break;
  }
  const std::uint64_t key = key_of(value);
  const auto known = made_.find(key);
  if (known != made_.end()) return known->second;
  if (depth_ == kMaxDepth) {
    throw pickle::BadPickle("has objects nested more than " + std::to_string(kMaxDepth) + " deep");
  }
  ++depth_;
  py::object made = make(value);
  --depth_;
  made_.emplace(key, made);
  return made;
}

void PickleObjects::preset(pickle::Value value, py::object object) {
  made_.insert_or_assign(key_of(value), std::move(object));
}

void PickleObjects::check_texts() {
  for (std::size_t number = 0; number < texts_.size(); ++number) text(number);
}

const py::object& PickleObjects::text(std::size_t number) {
  py::object& made = text_objects_.at(number);
  if (!made) {
    auto text = text_from_pickle(texts_[number]);
    if (!text) throw pickle::BadPickle("has a string that is not UTF-8");
    made = std::move(*text);
  }
  return made;
}

py::object PickleObjects::make(pickle::Value value) {
  switch (value.tag()) {
    case Tag::kFloat: return py::float_(values_.floats[value.at()]);
    case Tag::kBytes: return bytes_of(values_.bytes[value.at()]);
    case Tag::kByteArray: return py::bytearray(values_.bytes[value.at()]);
    case Tag::kTuple: return py::tuple(items(value));
    case Tag::kSize: {
      const auto numbers = values_.size(value);
      return make_size(numbers.data(), numbers.size());
    }
    case Tag::kObject: return make_object(value);
    case Tag::kCall: return make_call(value);
    case Tag::kChunk: return make_chunk(value);
    case Tag::kIndex: return make_index(value);
    case Tag::kLocation: return make_location(value);
    default: return make_container(value);
  }
}

py::object PickleObjects::make_int(pickle::Value value) const {
  if (value.tag() == Tag::kInt) return checked(PyLong_FromLongLong(value.number()));
  if (value.tag() == Tag::kWideInt) {
    return checked(PyLong_FromLongLong(values_.ints[value.at()]));
  }
  const py::object int_class =
      py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(&PyLong_Type));
  return int_class.attr("from_bytes")(bytes_of(values_.bytes[value.at()]), "little",
                                      py::arg("signed") = true);
}

py::list PickleObjects::items(pickle::Value container) {
  py::list made;
  values_.for_each(container, [&](pickle::Value value) { made.append(object(value)); });
  return made;
}

py::object PickleObjects::make_container(pickle::Value value) {
  py::object made;
  switch (value.tag()) {
    case Tag::kList: made = py::list(); break;
    case Tag::kDict: made = py::dict(); break;
    case Tag::kOrderedDict: made = py::module_::import("collections").attr("OrderedDict")(); break;
    case Tag::kSet: made = py::set(); break;
    case Tag::kFrozenSet:
      return steal(PyFrozenSet_New(items(value).ptr()), "has a set item that is not hashable");
    default:
      throw pickle::BadPickle("has unknown value tag " +
                              std::to_string(static_cast<int>(value.tag())));
  }
  made_.emplace(key_of(value), made);  // before its items, which may refer to it
  if (value.tag() == Tag::kList) {
    values_.for_each(value, [&](pickle::Value item) {
      if (PyList_Append(made.ptr(), object(item).ptr()) != 0) throw py::error_already_set();
    });
  } else if (value.tag() == Tag::kSet) {
    values_.for_each(value, [&](pickle::Value item) {
      if (PySet_Add(made.ptr(), object(item).ptr()) != 0) {
        PyErr_Clear();
        throw pickle::BadPickle("has a set item that is not hashable");
      }
    });
  } else {
    py::object dict_key;
    values_.for_each(value, [&](pickle::Value item) {
      if (!dict_key) {
        dict_key = object(item);
        return;
      }
      if (PyObject_SetItem(made.ptr(), dict_key.ptr(), object(item).ptr()) != 0) {
        PyErr_Clear();
        throw pickle::BadPickle("has a dict key that is not hashable");
      }
      dict_key = py::object();
    });
  }
  return made;
}

py::object PickleObjects::constant(std::string_view name) const {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::str key(name.data(), name.size());
  PyObject* found = PyDict_GetItemWithError(types.torch_names, key.ptr());
  if (found == nullptr || (Py_TYPE(found) != types.dtype && Py_TYPE(found) != types.layout)) {
    throw pickle::BadPickle("names torch." + std::string(name) +
                            ", which is not a dtype or layout of the installed torch");
  }
  return py::reinterpret_borrow<py::object>(found);
}

py::object PickleObjects::global(std::uint32_t number) {
  const pickle::Global& named = values_.globals[number];
  const pickle::Role role = pickle::role_of(named.module, named.name);
  if (role == pickle::Role::kConstant) return constant(named.name);
  if (role == pickle::Role::kUnknown || named.name == "encode" || named.name == "_get_layout") {
    throw pickle::BadPickle("has global " + named.module + "." + named.name + " as a value");
  }
  const std::string module = named.module == "__builtin__"      ? "builtins"
                             : named.module == "pathlib._local" ? "pathlib"
                                                                : named.module;
  const py::object found =
      py::getattr(py::module_::import(module.c_str()), named.name.c_str(), py::none());
  if (!PyType_Check(found.ptr())) {
    throw pickle::BadPickle("names " + module + "." + named.name +
                            ", which is not an installed class");
  }
  return found;
}

py::object PickleObjects::bare(pickle::Value value) {
  const py::object cls = global(values_.objects[value.at()].global);
  py::object made = cls.attr("__new__")(cls);
  made_.emplace(key_of(value), made);
  return made;
}

void PickleObjects::set(const py::object& object, pickle::Value name, const py::object& attribute) {
  if (name.tag() != Tag::kText)
    throw pickle::BadPickle("has an attribute name that is not a string");
  PyObject* key = Py_NewRef(text(name.at()).ptr());
  PyUnicode_InternInPlace(&key);
  const auto interned = py::reinterpret_steal<py::object>(key);
  const py::object attributes = checked(PyObject_GenericGetDict(object.ptr(), nullptr));
  attributes[interned] = attribute;
}

void PickleObjects::count_attribute() {
  constexpr std::size_t kMinLimit = std::size_t{1} << 20;
  constexpr std::size_t kMaxPerValue = 8;
  if (++attributes_ > kMinLimit &&
      (attributes_ - kMinLimit) / kMaxPerValue > values_.items.size()) {
    throw pickle::BadPickle("has so many objects with the same state that " +
                            util::grouped(attributes_) + " attributes would be created from " +
                            util::grouped(values_.items.size()) + " values");
  }
}

py::object PickleObjects::make_object(pickle::Value value) {
  const pickle::Values::Object& read = values_.objects[value.at()];
  py::object made = bare(value);
  if (!read.built) return made;
  if (py::hasattr(made, "__setstate__")) {
    const py::object state = object(read.state);
    try {
      made.attr("__setstate__")(state);
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_Exception)) throw;
      throw pickle::BadPickle("has a state that " + values_.globals[read.global].name +
                              ".__setstate__ rejects");
    }
    return made;
  }
  if (read.state.tag() != Tag::kDict)
    throw pickle::BadPickle("has an object state that is not a dict");
  pickle::Value name(Tag::kUnset);
  values_.for_each(read.state, [&](pickle::Value value_or_name) {
    if (name.tag() == Tag::kUnset) {
      name = value_or_name;
    } else {
      count_attribute();
      set(made, name, object(value_or_name));
      name = pickle::Value(Tag::kUnset);
    }
  });
  return made;
}

py::object PickleObjects::make_call(pickle::Value value) {
  const pickle::Values::Call& call = values_.calls[value.at()];
  const pickle::Global& named = values_.globals[call.global];
  const py::tuple arguments = py::tuple(items(call.arguments));
  const std::string problem = "calls " + named.name + " with unexpected arguments";
  if (named.name == "_get_layout") {
    constexpr std::string_view kTorch = "torch.";
    const auto text = arguments.size() == 1 ? utf8(arguments[0].ptr()) : std::nullopt;
    if (!text || !text->starts_with(kTorch)) throw pickle::BadPickle(problem);
    return constant(text->substr(kTorch.size()));
  }
  if (named.name == "encode") {
    if (arguments.size() != 2 || !all_texts(arguments) ||
        PyUnicode_CompareWithASCIIString(arguments[1].ptr(), "latin1") != 0) {
      throw pickle::BadPickle(problem);
    }
    return steal(PyUnicode_AsLatin1String(arguments[0].ptr()), problem.c_str());
  }
  const bool path = named.module.starts_with("pathlib");
  const bool one = arguments.size() == 1;
  const bool plain = path ? all_texts(arguments)
                     : named.name == "complex"
                         ? arguments.size() == 2 && PyFloat_CheckExact(arguments[0].ptr()) &&
                               PyFloat_CheckExact(arguments[1].ptr())
                     : named.name == "bytearray" ? one && PyBytes_CheckExact(arguments[0].ptr())
                                                 : one && PyLong_CheckExact(arguments[0].ptr());
  if (!plain) throw pickle::BadPickle(problem);
  return steal(PyObject_CallObject(global(call.global).ptr(), arguments.ptr()), problem.c_str());
}

py::object PickleObjects::make_chunk(pickle::Value value) const {
  const pickle::Values::Chunk& chunk = values_.chunks[value.at()];
  const auto offsets = values_.size(chunk.offsets);
  const auto sizes = values_.size(chunk.sizes);
  return bindings::make_chunk(make_size(offsets.data(), offsets.size()),
                              make_size(sizes.data(), sizes.size()));
}

py::object PickleObjects::make_index(pickle::Value value) {
  const pickle::Values::Index& index = values_.indices[value.at()];
  PyObject* fqn = text(index.fqn).ptr();
  const std::int64_t chunk_index =
      index.chunk_index.tag() == Tag::kInt ? index.chunk_index.number() : columns::kNoChunkIndex;
  if (index.offset.tag() != Tag::kSize) return bindings::make_index(fqn, chunk_index);
  const auto offset = values_.size(index.offset);
  return bindings::make_index(fqn, offset.data(), offset.size(), chunk_index);
}

py::object PickleObjects::make_location(pickle::Value value) {
  const pickle::Values::Location& location = values_.locations[value.at()];
  return make_storage_info(text(location.path), location.offset, location.length);
}

}  // namespace shardplan::bindings
