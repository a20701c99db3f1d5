#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/torch/python_object.h"
#include "core/plan.h"

namespace shardplan {

/// Makes the objects of DCP: each equals what upstream's own constructors give, attribute order
/// included, so that its pickle does too.

py::object make_size(const std::int64_t* numbers, std::size_t ndim);
py::object make_chunk(const std::int64_t* offsets, const std::int64_t* sizes, std::size_t ndim);

/// Values of one TensorProperties, in the order of the class's fields.
using PropertyValues = std::vector<py::object>;

/// The objects that the rows of a save plan point into.
struct SaveTables {
  std::vector<py::object> names;
  std::vector<PropertyValues> properties;
  std::vector<py::object> foreign;
};

/// The objects that the rows of a load plan point into.
struct ReadTables {
  std::vector<py::object> names;
  std::vector<py::object> foreign;
};

/// A list of every row's stock WriteItem, each with objects of its own.
py::list make_write_items(const SaveColumns& rows, const SaveTables& tables);

/// A list of every row's stock ReadItem.
py::list make_read_items(const ReadColumns& rows, const ReadTables& tables);

}  // namespace shardplan
