#pragma once

#include <optional>
#include <string_view>

#include "bindings/common/python_object.h"
#include "core/wire/names.h"

namespace shardplan::bindings {

/// The shape of a path of a nested state dict, where it is a tuple of str and int that gives `name`
/// when joined by dots.
std::optional<wire::PathShape> shape_of_path(std::string_view name, PyObject* path);

/// The path of a name. Throws BadWire where the shape does not fit it.
py::tuple path_of(std::string_view name, const wire::PathShape& shape);

/// UTF-8 that arrived as a str. Throws BadWire where it is none.
py::object text_from_utf8(std::string_view bytes);

/// A text of a pickle as a str: UTF-8 with lone surrogates. Nothing where it is none.
std::optional<py::object> text_from_pickle(std::string_view bytes);

/// A str's bytes as UTF-8; nothing for a str that has none (lone surrogates), or is no str.
std::optional<std::string_view> utf8(PyObject* object);

}  // namespace shardplan::bindings
