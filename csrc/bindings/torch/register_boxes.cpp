#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <utility>
#include <vector>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/register.h"
#include "bindings/torch/state_dict/dtensor_reader.h"
#include "bindings/torch/upstream/chunk_reader.h"
#include "bindings/torch/upstream/item_maker.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/upstream/types.h"
#include "core/boxes/validate.h"
#include "core/planning/read_plan.h"

namespace shardplan::bindings {
namespace {

/// Reads two of upstream's chunks with the same number of dims.
std::optional<boxes::Boxes> read_pair(const py::object& a, const py::object& b) {
  std::size_t ndim = 0;
  if (!read_ndim(a.ptr(), ndim)) return std::nullopt;
  boxes::Boxes boxes(ndim);
  std::vector<std::int64_t> numbers(2 * ndim);
  for (const py::object* chunk : {&a, &b}) {
    if (!read_chunk(chunk->ptr(), ndim, numbers.data(), numbers.data() + ndim) ||
        !boxes.push(numbers.data(), numbers.data() + ndim)) {
      return std::nullopt;
    }
  }
  return boxes;
}

std::optional<bool> chunks_overlap(const py::object& a, const py::object& b) {
  const auto pair = read_pair(a, b);
  if (!pair) return std::nullopt;
  return boxes::bounds_overlap(pair->starts(0), pair->starts(1), pair->ndim());
}

std::optional<std::vector<py::tuple>> overlap_of_chunks(const py::object& saved,
                                                        const py::object& current) {
  const auto pair = read_pair(saved, current);
  if (!pair) return std::nullopt;
  const std::size_t ndim = pair->ndim();
  std::vector<std::int64_t> numbers(3 * ndim);
  std::int64_t* in_saved = numbers.data();
  std::int64_t* in_current = in_saved + ndim;
  std::int64_t* lengths = in_current + ndim;
  if (!planning::overlap_region(pair->starts(0), pair->starts(1), ndim, in_saved, in_current,
                                lengths)) {
    return std::nullopt;
  }
  std::vector<py::tuple> narrows;
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    narrows.push_back(py::make_tuple(dim, in_saved[dim], in_current[dim], lengths[dim]));
  }
  return narrows;
}

std::optional<bool> chunk_in_bounds(const py::object& size, const py::object& chunk) {
  std::size_t ndim = 0;
  if (!read_ndim(chunk.ptr(), ndim)) return std::nullopt;
  std::vector<std::int64_t> numbers(3 * ndim);
  boxes::Boxes boxes(ndim);
  if (!read_tuple(size.ptr(), ndim, numbers.data()) ||
      !read_chunk(chunk.ptr(), ndim, numbers.data() + ndim, numbers.data() + 2 * ndim) ||
      !boxes.push(numbers.data() + ndim, numbers.data() + 2 * ndim)) {
    return std::nullopt;
  }
  return boxes::in_bounds(boxes, 0, {numbers.data(), ndim});
}

bool is_valid(PyObject* saved, bool must_fill) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (Py_TYPE(saved) == types.bytes_metadata) return true;
  if (Py_TYPE(saved) != types.tensor_metadata) return false;
  const py::object size = read_attribute(saved, types.size);
  const py::object chunks = read_attribute(saved, types.chunks);
  if (!size || !chunks || !PyTuple_Check(size.ptr())) return false;
  std::vector<std::int64_t> shape(static_cast<std::size_t>(PyTuple_GET_SIZE(size.ptr())));
  if (shape.empty()) return true;
  boxes::Boxes boxes(shape.size());
  return read_tuple(size.ptr(), shape.size(), shape.data()) && append_chunks(chunks.ptr(), boxes) &&
         boxes::check_boxes(boxes, shape, must_fill) == boxes::Fault::kNone;
}

py::list suspects(const py::dict& state_dict_metadata, bool must_fill) {
  // The pairs below would trigger the collector, which would traverse the whole metadata.
  const CollectorPause pause;
  py::list keys;
  for (const py::handle entry : py::list(state_dict_metadata.attr("items")())) {
    const auto [key, saved] = entry.cast<std::pair<py::object, py::object>>();
    if (!is_valid(saved.ptr(), must_fill)) keys.append(key);
  }
  return keys;
}

std::optional<py::object> chunk_of_dtensor(const py::object& dtensor) {
  if (Py_TYPE(dtensor.ptr()) != UpstreamTypes::get().dtensor) return std::nullopt;
  const at::Tensor& tensor = tensor_in(dtensor.ptr());
  DTensorReader reader;
  if (reader.read(dtensor.ptr(), tensor) != MeshMembership::kHolds) return std::nullopt;
  return make_chunk(reader.offsets(), reader.sizes(), tensor.sizes().size());
}

std::optional<py::object> chunk_of_tensor(const py::object& object) {
  if (!is_plain_tensor(object.ptr())) return std::nullopt;
  const at::Tensor& tensor = tensor_in(object.ptr());
  if (!is_dense(tensor)) return std::nullopt;
  const std::vector<std::int64_t> zeros(tensor.sizes().size());
  return make_chunk(zeros.data(), tensor.sizes().data(), zeros.size());
}

std::optional<py::object> chunk_of(const py::object& tensor) {
  auto chunk = chunk_of_dtensor(tensor);
  return chunk ? chunk : chunk_of_tensor(tensor);
}

}  // namespace

void register_boxes(py::module_& m) {
  m.def("chunks_overlap", &chunks_overlap, py::arg("a"), py::arg("b"),
        "Returns whether two chunks overlap; None if native code cannot read them.");
  m.def("overlap_of_chunks", &overlap_of_chunks, py::arg("saved"), py::arg("current"),
        "Returns (dim, offset in saved, offset in current, length) per dim; None if not readable.");
  m.def("chunk_in_bounds", &chunk_in_bounds, py::arg("size"), py::arg("chunk"),
        "Returns whether a chunk lies within a tensor; None if native code cannot read it.");
  m.def("suspects", &suspects, py::arg("state_dict_metadata"), py::arg("must_fill"),
        "Returns the keys of tensors that may be invalid, in order.");
  m.def("chunk_of_dtensor", &chunk_of_dtensor, py::arg("dtensor"),
        "Returns the chunk of a DTensor's local shard; None if native code cannot read it.");
  m.def("chunk_of", &chunk_of, py::arg("tensor"),
        "Returns the only chunk of a tensor on this rank; None if native code cannot read it.");
  m.def("chunk_of_tensor", &chunk_of_tensor, py::arg("tensor"),
        "Returns the chunk of a plain tensor; None if native code cannot read it.");
}

}  // namespace shardplan::bindings
