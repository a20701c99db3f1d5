#include "bindings/torch/wire/property_wire.h"

#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "core/util/text.h"
#include "core/wire/bytes.h"

namespace shardplan::bindings {
namespace {

enum Tag : std::uint8_t { kNone, kFalse, kTrue, kInt, kInts, kTorchName, kPickled };

constexpr std::string_view kTorch = "torch.";

bool is_torch_constant(PyObject* value) {
  const UpstreamTypes& types = UpstreamTypes::get();
  return Py_TYPE(value) == types.dtype || Py_TYPE(value) == types.layout ||
         Py_TYPE(value) == types.memory_format;
}

bool write_value(PyObject* value, wire::ByteWriter& out) {
  if (value == Py_None || PyBool_Check(value)) {
    out.byte(value == Py_None ? kNone : value == Py_True ? kTrue : kFalse);
    return true;
  }
  std::int64_t number = 0;
  if (PyLong_CheckExact(value) && read_int(value, number)) {
    out.byte(kInt);
    out.number(number);
    return true;
  }
  if (PyTuple_CheckExact(value)) {
    out.byte(kInts);
    out.varint(static_cast<std::uint64_t>(PyTuple_GET_SIZE(value)));
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(value); ++at) {
      PyObject* element = PyTuple_GET_ITEM(value, at);
      if (!PyLong_CheckExact(element) || !read_int(element, number)) return false;
      out.number(number);
    }
    return true;
  }
  if (!is_torch_constant(value)) return false;
  // str(torch.float32) is "torch.float32"; layouts and memory formats are alike.
  const py::object text = checked(PyObject_Str(value));
  const auto name = utf8(text.ptr());
  if (!name || !name->starts_with(kTorch)) return false;
  out.byte(kTorchName);
  out.string(name->substr(kTorch.size()));
  return true;
}

py::object read_torch_constant(wire::ByteReader& in) {
  const std::string_view name = in.string();
  const py::object key = text_from_utf8(name);
  PyObject* found = PyDict_GetItemWithError(UpstreamTypes::get().torch_names, key.ptr());
  if (found == nullptr || !is_torch_constant(found)) {
    in.fail("names torch." + util::printable(name) + ", which the installed torch does not have");
  }
  return py::reinterpret_borrow<py::object>(found);
}

/// Writes the pickle of the value of an unknown field.
bool write_pickled(PyObject* value, wire::ByteWriter& out) {
  const py::object bytes = py::reinterpret_steal<py::object>(
      PyObject_CallOneArg(UpstreamTypes::get().pickle_dumps, value));
  if (!bytes || !PyBytes_CheckExact(bytes.ptr())) {
    PyErr_Clear();
    return false;
  }
  out.byte(kPickled);
  out.string(std::string_view(py::reinterpret_borrow<py::bytes>(bytes)));
  return true;
}

py::object read_pickled(wire::ByteReader& in) {
  const py::bytes bytes{std::string(in.string())};
  PyObject* value = PyObject_CallOneArg(UpstreamTypes::get().pickle_loads, bytes.ptr());
  if (value == nullptr) {
    const py::error_already_set error;
    throw wire::BadWire(std::string("has a tensor property that cannot be unpickled: ") +
                        error.what());
  }
  return py::reinterpret_steal<py::object>(value);
}

py::object read_value(wire::ByteReader& in) {
  const std::uint8_t tag = in.byte();
  switch (tag) {
    case kNone: return py::none();
    case kFalse: return py::bool_(false);
    case kTrue: return py::bool_(true);
    case kInt: return py::int_(in.number());
    case kInts: {
      py::tuple numbers(in.count());
      for (std::size_t at = 0; at < numbers.size(); ++at) numbers[at] = py::int_(in.number());
      return numbers;
    }
    case kTorchName: return read_torch_constant(in);
    case kPickled: return read_pickled(in);
    default: in.fail("has unknown property tag " + std::to_string(tag));
  }
}

}  // namespace

std::optional<std::string> properties_to_wire(const PropertyValues& values) {
  const UpstreamTypes& types = UpstreamTypes::get();
  wire::ByteWriter out;
  out.varint(values.size());
  for (std::size_t field = 0; field < values.size(); ++field) {
    const auto name = utf8(types.property_names[field]);
    if (!name) return std::nullopt;
    out.string(*name);
    if (write_value(values[field].ptr(), out)) continue;
    const bool unknown = types.property_fields[field] == PropertyField::kUnknown;
    if (!unknown || !write_pickled(values[field].ptr(), out)) return std::nullopt;
  }
  return out.take();
}

PropertyValues properties_from_wire(std::string_view bytes) {
  const UpstreamTypes& types = UpstreamTypes::get();
  wire::ByteReader in(bytes);
  const std::size_t count = in.count();
  bool fits = count == types.property_names.size();
  PropertyValues values;
  for (std::size_t field = 0; field < count && fits; ++field) {
    fits = in.string() == utf8(types.property_names[field]);
    values.push_back(read_value(in));
  }
  if (!fits) {
    throw wire::BadWire(
        "has other tensor properties than the installed torch: install the same torch on every "
        "rank");
  }
  in.expect_end("properties");
  return values;
}

}  // namespace shardplan::bindings
