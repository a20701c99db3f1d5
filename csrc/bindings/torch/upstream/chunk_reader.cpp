#include "bindings/torch/upstream/chunk_reader.h"

#include "bindings/torch/upstream/object_reader.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
namespace {

bool is_chunk(PyObject* object) {
  return Py_TYPE(object) == UpstreamTypes::get().chunk.type;
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

bool read_exact_chunk(PyObject* chunk, std::vector<std::int64_t>& box) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object all = attributes_of(chunk, types.chunk, 2);
  if (!all || !read_size(attribute(all, types.offsets), box)) return false;
  const std::size_t ndim = box.size();
  return read_size(attribute(all, types.sizes), box) && box.size() == 2 * ndim;
}

}  // namespace shardplan::bindings
