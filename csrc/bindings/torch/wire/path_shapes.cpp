#include "bindings/torch/wire/path_shapes.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "core/util/text.h"

namespace shardplan::bindings {
namespace {

/// Returns the `str` of an element of a path.
std::optional<std::string> text_of(PyObject* element, bool& is_int) {
  is_int = PyLong_CheckExact(element);
  if (is_int) {
    std::int64_t number = 0;
    if (!read_int(element, number)) return std::nullopt;
    return std::to_string(number);
  }
  if (!PyUnicode_CheckExact(element)) return std::nullopt;
  const auto text = utf8(element);
  return text ? std::optional<std::string>(*text) : std::nullopt;
}

}  // namespace

std::optional<std::string_view> utf8(PyObject* object) {
  if (!PyUnicode_CheckExact(object)) return std::nullopt;
  Py_ssize_t length = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object, &length);
  if (text == nullptr) {
    PyErr_Clear();
    return std::nullopt;
  }
  return std::string_view(text, static_cast<std::size_t>(length));
}

py::object text_from_utf8(std::string_view bytes) {
  PyObject* text =
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), nullptr);
  if (text == nullptr) {
    PyErr_Clear();
    throw wire::BadWire("has a string that is not UTF-8");
  }
  return py::reinterpret_steal<py::object>(text);
}

std::optional<py::object> text_from_pickle(std::string_view bytes) {
  PyObject* text =
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogatepass");
  if (text == nullptr) {
    PyErr_Clear();
    return std::nullopt;
  }
  return py::reinterpret_steal<py::object>(text);
}

std::optional<wire::PathShape> shape_of_path(std::string_view name, PyObject* path) {
  if (!PyTuple_CheckExact(path) || PyTuple_GET_SIZE(path) == 0) return std::nullopt;
  wire::PathShape shape;
  for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(path); ++at) {
    bool is_int = false;
    const auto text = text_of(PyTuple_GET_ITEM(path, at), is_int);
    if (!text || !name.starts_with(*text)) return std::nullopt;
    name.remove_prefix(text->size());
    shape.push_back({static_cast<std::uint32_t>(wire::count_parts(*text)), is_int});
    if (at + 1 == PyTuple_GET_SIZE(path)) break;
    if (!name.starts_with('.')) return std::nullopt;
    name.remove_prefix(1);
  }
  return name.empty() ? std::optional(shape) : std::nullopt;
}

py::tuple path_of(std::string_view name, const wire::PathShape& shape) {
  py::tuple path(shape.size());
  const std::string_view whole_name = name;
  for (std::size_t at = 0; at < shape.size(); ++at) {
    std::size_t end = 0;
    for (std::uint32_t part = 0; part < shape[at].parts; ++part) {
      if (part > 0) ++end;
      if (end > name.size()) {
        throw wire::BadWire("has a path that does not match name " + util::printable(whole_name));
      }
      end = std::min(name.find('.', end), name.size());
    }
    const std::string_view text = name.substr(0, end);
    name.remove_prefix(std::min(end + 1, name.size()));
    if (!shape[at].is_int) {
      path[at] = text_from_utf8(text);
      continue;
    }
    std::int64_t number = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    if (parsed.ec != std::errc() || std::to_string(number) != text) {
      throw wire::BadWire("has path element " + util::printable(text) + ", which is not an int");
    }
    path[at] = checked(PyLong_FromLongLong(number));
  }
  return path;
}

}  // namespace shardplan::bindings
