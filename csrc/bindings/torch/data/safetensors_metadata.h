#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bindings/torch/data/safetensors_headers.h"
#include "bindings/torch/upstream/item_maker.h"

namespace shardplan::bindings {

/// The metadata of a directory of safetensors files, in upstream's classes, as
/// `HuggingFaceStorageReader.read_metadata` makes them.
class SafetensorsMetadata {
 public:
  /// dtypes: the dtypes that upstream reads, by their names in torch
  explicit SafetensorsMetadata(py::dict dtypes) : dtypes_(std::move(dtypes)) {}

  /// Adds the tensors of a local file.
  ///
  /// path:     a str, which becomes the `relative_path` of the locations
  /// names:    the names of its tensors, in order
  /// sharding: per name, a dict in which `saved_offsets` is the offset of the tensor within the
  ///           complete one; or None, if the tensors are complete
  ///
  /// Returns false, and adds nothing, if upstream may read the file otherwise: if native code does
  /// not read its header, or an offset does not fit its tensor.
  bool add(const py::str& path, const py::list& names, const py::object& sharding);

  const py::dict& entries() const { return entries_; }      // state_dict_metadata
  const py::dict& locations() const { return locations_; }  // storage_data

 private:
  /// What an entry of a dtype needs.
  struct OfDtype {
    py::object dtype;
    PropertyValues properties;
  };
  struct Tensor;

  bool read(const std::string& path, const py::str& name, const py::object& sharding, Tensor& out);
  const OfDtype* of_dtype(const std::string& name);
  void add(const py::str& path, const Tensor& tensor);

  SafetensorsHeaders headers_;
  py::dict dtypes_;
  std::map<std::string, OfDtype> of_dtypes_;  // by the names of dtypes
  py::dict entries_;
  py::dict locations_;
  std::map<std::string, std::vector<std::int64_t>, std::less<>> sizes_;  // per entry
};

}  // namespace shardplan::bindings
