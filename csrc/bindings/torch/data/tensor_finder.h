#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "bindings/common/python_object.h"
#include "bindings/torch/state_dict/dtensor_reader.h"

namespace shardplan::bindings {

/// Finds the tensors of a state dict that the items of a plan name, as `find_state_dict_object`
/// does.
class TensorFinder {
 public:
  /// lookup(index): the planner's method, for entries that are neither a Tensor nor a DTensor. Both
  /// arguments must outlive the finder.
  TensorFinder(const py::object& state_dict, const py::object& lookup)
      : state_dict_(state_dict), lookup_(lookup) {}

  /// Returns the tensor of a MetadataIndex. Returns an undefined tensor if upstream has to find it.
  ///
  /// chunk_index: MetadataIndex.index, or kNoChunkIndex
  at::Tensor find(const py::object& fqn, std::span<const std::int64_t> offset,
                  std::int64_t chunk_index);

 private:
  py::object entry(const py::object& fqn) const;

  const py::object& state_dict_;
  const py::object& lookup_;
  DTensorReader dtensors_;
};

/// Returns whether a dispatch mode is active, which sees the operations of upstream's code.
bool dispatch_mode_is_active();

}  // namespace shardplan::bindings
