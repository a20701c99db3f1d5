#pragma once

#include <optional>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

// These functions read objects of upstream's dataclasses through their attribute dicts. They only
// read objects of exactly the upstream class with exactly its attributes. They return false, with
// no Python error set, for any other object.

using Numbers = std::vector<std::int64_t>;

/// Returns the attribute dict of an object of exactly this class with `count` attributes, else
/// null.
py::object attributes_of(PyObject* object, const UpstreamClass& cls, Py_ssize_t count);

/// Returns a borrowed reference, or null if there is no such attribute.
PyObject* attribute(const py::object& attributes, PyObject* name);

/// Appends the numbers of a torch.Size of plain ints that fit int64.
bool read_size(PyObject* size, Numbers& out);

/// The fields of a MetadataIndex.
struct UpstreamIndex {
  py::object name;
  std::optional<Numbers> offset;
  std::optional<std::int64_t> chunk_index;  // never negative
};
bool read_upstream_index(PyObject* index, UpstreamIndex& out);

/// Appends the values of a TensorProperties, in the order of the class's fields.
bool read_properties(PyObject* object, PropertyValues& out);

}  // namespace shardplan::bindings
