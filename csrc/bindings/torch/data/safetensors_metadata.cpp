#include "bindings/torch/data/safetensors_metadata.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "bindings/torch/upstream/object_reader.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "core/columns/plan.h"
#include "core/util/checked.h"

namespace shardplan::bindings {

struct SafetensorsMetadata::Tensor {
  py::str name;
  std::string_view text;  // of `name`
  const OfDtype* of_dtype = nullptr;
  std::span<const std::int64_t> shape;
  Numbers offset;
  Numbers end;  // offset + shape
};

namespace {

/// Reads the `saved_offsets` of a tensor. Returns false if there are none, or not `ndim`.
bool read_offset(const py::object& sharding, const py::str& name, std::size_t ndim, Numbers& out) {
  if (sharding.is_none()) {
    out.assign(ndim, 0);
    return true;
  }
  if (!PyDict_CheckExact(sharding.ptr())) return false;
  PyObject* const found = PyDict_GetItemWithError(sharding.ptr(), name.ptr());
  if (found == nullptr || !PyDict_CheckExact(found)) return false;
  PyObject* const offset = PyDict_GetItemString(found, "saved_offsets");
  if (offset == nullptr || !PyList_CheckExact(offset) ||
      PyList_GET_SIZE(offset) != static_cast<Py_ssize_t>(ndim)) {
    return false;
  }
  out.resize(ndim);
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    PyObject* const number = PyList_GET_ITEM(offset, static_cast<Py_ssize_t>(dim));
    if (!PyLong_CheckExact(number) || !read_int(number, out[dim])) return false;
  }
  return true;
}

}  // namespace

const SafetensorsMetadata::OfDtype* SafetensorsMetadata::of_dtype(const std::string& name) {
  const auto known = of_dtypes_.find(name);
  if (known != of_dtypes_.end()) return &known->second;
  const UpstreamTypes& types = UpstreamTypes::get();
  PyObject* const dtype = PyDict_GetItemString(dtypes_.ptr(), name.c_str());
  if (dtype == nullptr) return nullptr;
  const py::handle cls(reinterpret_cast<PyObject*>(types.tensor_properties.type));
  OfDtype made{py::reinterpret_borrow<py::object>(dtype), {}};
  const py::object properties = cls(py::arg("dtype") = made.dtype);
  if (!read_properties(properties.ptr(), made.properties)) return nullptr;
  return &of_dtypes_.emplace(name, std::move(made)).first->second;
}

bool SafetensorsMetadata::read(const std::string& path, const py::str& name,
                               const py::object& sharding, Tensor& out) {
  const auto text = utf8(name.ptr());
  const data::SafetensorsEntry* const entry = text ? headers_.find(path, *text) : nullptr;
  if (entry == nullptr) return false;
  out.name = name;
  out.text = *text;
  out.of_dtype = of_dtype(entry->tensor.dtype);
  out.shape = entry->tensor.shape;
  if (out.of_dtype == nullptr || !read_offset(sharding, name, out.shape.size(), out.offset)) {
    return false;
  }
  const auto known = sizes_.find(out.text);
  if (known != sizes_.end() && known->second.size() != out.shape.size()) return false;
  for (std::size_t dim = 0; dim < out.shape.size(); ++dim) {
    std::int64_t end = 0;
    if (!util::checked_add(out.offset[dim], out.shape[dim], end)) return false;
    out.end.push_back(end);
  }
  return true;
}

void SafetensorsMetadata::add(const py::str& path, const Tensor& tensor) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const std::size_t ndim = tensor.shape.size();
  const py::object chunk = make_chunk(tensor.offset.data(), tensor.shape.data(), ndim);
  const auto known = sizes_.find(tensor.text);
  if (known == sizes_.end()) {
    sizes_.emplace(tensor.text, tensor.end);
    py::list chunks;
    chunks.append(chunk);
    entries_[tensor.name] = make_tensor_metadata(make_properties(tensor.of_dtype->properties),
                                                 make_size(tensor.end.data(), ndim), chunks);
  } else {
    const py::object entry = entries_[tensor.name];
    entry.attr("chunks").attr("append")(chunk);
    Numbers& size = known->second;
    std::ranges::transform(size, tensor.end, size.begin(),
                           [](std::int64_t a, std::int64_t b) { return std::max(a, b); });
    entry.attr("size") = make_size(size.data(), ndim);
  }
  const py::handle location(reinterpret_cast<PyObject*>(types.hf_storage_info.type));
  const py::object index =
      make_index(tensor.name.ptr(), tensor.offset.data(), ndim, columns::kNoChunkIndex);
  locations_[index] = location(path, make_size(tensor.shape.data(), ndim), tensor.of_dtype->dtype);
}

bool SafetensorsMetadata::add(const py::str& path, const py::list& names,
                              const py::object& sharding) {
  const auto file = utf8(path.ptr());
  if (!file) return false;
  const std::string file_name(*file);
  const CollectorPause pause;
  std::vector<Tensor> tensors(names.size());
  for (std::size_t at = 0; at < names.size(); ++at) {
    const py::object name = names[at];
    if (!PyUnicode_CheckExact(name.ptr()) ||
        !read(file_name, py::reinterpret_borrow<py::str>(name), sharding, tensors[at])) {
      return false;
    }
  }
  for (const Tensor& tensor : tensors) add(path, tensor);
  return true;
}

}  // namespace shardplan::bindings
