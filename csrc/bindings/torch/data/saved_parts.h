#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "bindings/common/python_object.h"
#include "bindings/torch/data/saved_tensor.h"
#include "core/data/part_format.h"

namespace shardplan::bindings {

/// How the installed torch.save lays out parts with some options. Used with the GIL.
class SavedParts {
 public:
  /// sample: the part of a tensor. Throws ValueError if native code does not write such parts.
  /// samples(dtype): (tensor, part) of some tensors of a dtype, which is given by name. A dtype is
  ///   written natively if native code makes the same parts.
  SavedParts(const py::bytes& sample, py::object samples);

  bool has_checksums() const { return format_.checksums(); }

  /// Returns the ends of a tensor's part. Returns nothing if native code cannot write it.
  std::optional<data::PartEnds> ends_of(const SavedTensor& tensor);

 private:
  bool is_known(const std::string& dtype);
  py::object part_of(const py::object& tensor) const;

  data::PartFormat format_;
  py::object samples_;
  std::map<std::string, bool> dtypes_;
};

/// Ends of the parts that one save writes. Tensors with equal descriptions share them.
class EndsCache {
 public:
  explicit EndsCache(SavedParts& parts) : parts_(parts) {}

  /// Returns the ends of a tensor's part; null if native code cannot write it. The pointer is valid
  /// until `forget_if_many`.
  const data::PartEnds* find(const SavedTensor& tensor);

  /// Bounds the memory of this object.
  void forget_if_many();

 private:
  SavedParts& parts_;
  std::unordered_map<std::string, data::PartEnds> ends_;  // by description
  std::string key_;
};

}  // namespace shardplan::bindings
