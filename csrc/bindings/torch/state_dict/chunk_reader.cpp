#include "bindings/torch/state_dict/chunk_reader.h"

#include <vector>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

bool is_chunk(PyObject* object) {
  return Py_TYPE(object) == UpstreamTypes::get().chunk.type;
}

/// What a list fills itself from, Python's None once it is filled; none where it is another list.
py::object columns_of(PyObject* list) {
  return PyList_Check(list) ? read_attribute(list, UpstreamTypes::get().columns) : py::object();
}

}  // namespace

bool read_ndim(PyObject* chunk, std::size_t& ndim) {
  if (!is_chunk(chunk)) return false;
  const py::object offsets = read_attribute(chunk, UpstreamTypes::get().offsets);
  if (!offsets || !PyTuple_Check(offsets.ptr())) return false;
  ndim = static_cast<std::size_t>(PyTuple_GET_SIZE(offsets.ptr()));
  return true;
}

bool read_chunk(PyObject* chunk, std::size_t ndim, std::int64_t* offsets, std::int64_t* sizes) {
  if (!is_chunk(chunk)) return false;
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object offsets_object = read_attribute(chunk, types.offsets);
  const py::object sizes_object = read_attribute(chunk, types.sizes);
  return offsets_object && sizes_object && read_tuple(offsets_object.ptr(), ndim, offsets) &&
         read_tuple(sizes_object.ptr(), ndim, sizes);
}

bool read_chunks(PyObject* list, boxes::Boxes& out) {
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
