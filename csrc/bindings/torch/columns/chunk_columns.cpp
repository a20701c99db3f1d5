#include "bindings/torch/columns/chunk_columns.h"

#include <vector>

#include "bindings/torch/upstream/chunk_reader.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

/// Returns the columns of a lazy list, None once it has materialized, or null for any other object.
py::object columns_of(PyObject* list) {
  return PyList_Check(list) ? read_attribute(list, UpstreamTypes::get().columns) : py::object();
}

}  // namespace

bool append_chunks(PyObject* list, boxes::Boxes& out) {
  if (!PyList_CheckExact(list)) {
    const py::object columns = columns_of(list);
    if (!columns) return false;
    if (!columns.is_none()) {
      return py::isinstance<ChunkColumns>(columns) &&
             columns.cast<const ChunkColumns&>().append_to(out);
    }
  }
  const Py_ssize_t count = PyList_GET_SIZE(list);
  out.reserve(out.size() + static_cast<std::size_t>(count));
  std::vector<std::int64_t> numbers(2 * out.ndim());
  std::int64_t* offsets = numbers.data();
  std::int64_t* sizes = offsets + out.ndim();
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
    const py::object chunk = list_item(list, i);
    if (!read_chunk(chunk.ptr(), out.ndim(), offsets, sizes) || !out.push(offsets, sizes)) {
      return false;
    }
  }
  return true;
}

}  // namespace shardplan::bindings
