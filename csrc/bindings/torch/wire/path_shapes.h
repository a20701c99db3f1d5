#pragma once

#include <optional>
#include <string_view>

#include "bindings/common/python_object.h"
#include "core/wire/names.h"

namespace shardplan::bindings {

/// Returns the shape of a path of a nested state dict. Returns nothing unless the path is a tuple
/// of str and int that gives `name` when joined by dots.
std::optional<wire::PathShape> shape_of_path(std::string_view name, PyObject* path);

/// Returns the path of a name. Throws BadWire if the shape does not match the name.
py::tuple path_of(std::string_view name, const wire::PathShape& shape);

/// Returns received UTF-8 as a str. Throws BadWire if it is not UTF-8.
py::object text_from_utf8(std::string_view bytes);

/// Returns a string of a pickle, which is UTF-8 with lone surrogates, as a str. Returns nothing if
/// it is not.
std::optional<py::object> text_from_pickle(std::string_view bytes);

/// Returns a str as UTF-8. Returns nothing if it has lone surrogates, or if the object is not a
/// str.
std::optional<std::string_view> utf8(PyObject* object);

}  // namespace shardplan::bindings
