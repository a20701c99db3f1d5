#pragma once

#include <optional>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

/// Reading of upstream dataclass objects by their attribute dicts. Only objects of exactly the
/// upstream class that hold exactly its attributes are read; false means: it is something else, and
/// no Python error is set.

using Numbers = std::vector<std::int64_t>;

/// The attributes of an object of exactly this class; none where it has other than `count`.
py::object attributes_of(PyObject* object, const UpstreamClass& cls, Py_ssize_t count);

/// Borrowed; nullptr where there is none.
PyObject* attribute(const py::object& attributes, PyObject* name);

/// Appends the numbers of a torch.Size of plain ints that fit int64.
bool read_size(PyObject* size, Numbers& out);

/// A MetadataIndex. `chunk index` is left alone where its index is None, else it is 0 or more.
struct UpstreamIndex {
  py::object name;
  std::optional<Numbers> offset;
  std::optional<std::int64_t> chunk_index;
};
bool read_upstream_index(PyObject* index, UpstreamIndex& out);

/// The values of a TensorProperties, in the order of the class's fields.
bool read_properties(PyObject* object, PropertyValues& out);

}  // namespace shardplan::bindings
