#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

/// Tensor that a box of a checkpoint is read into.
struct TargetTensor {
  at::Tensor tensor;
  std::string_view dtype;  // as in StoredTensor::dtype
  /// The first element, if the tensor can be written as strided memory; null otherwise.
  char* data = nullptr;
};

/// Returns what native code has to know of a target. Returns nothing if upstream has to write it:
/// the tensor is not strided, overlaps itself, is an inference tensor or of a subclass, is on a
/// device other than the CPU and CUDA, or has a dtype that native code does not copy.
std::optional<TargetTensor> target_of(const at::Tensor& tensor);

/// Narrows a tensor as upstream's `narrow_tensor_by_index` does. Returns an undefined tensor if
/// upstream would raise, or if the result would not have `lengths`.
at::Tensor narrow(const at::Tensor& tensor, std::span<const std::int64_t> offsets,
                  std::span<const std::int64_t> lengths);

/// Returns whether a tensor is a strided one on the CPU or CUDA, has a storage, and is not of a
/// subclass, of functorch, or lazily conjugated or negated.
bool is_plain_strided(const at::Tensor& tensor);

/// Returns whether the storage of a tensor with at least one element has all of its elements.
bool storage_has_all_elements(const at::Tensor& tensor);

/// Returns the name of a dtype, or nothing if native code does not copy it.
std::optional<std::string_view> dtype_of(at::ScalarType type);

/// Returns the dtype of a name, or nothing if native code does not copy it.
std::optional<at::ScalarType> scalar_type_of(std::string_view dtype);

/// Returns whether `Tensor.copy_` converts elements without a warning or an error, and to values
/// that do not depend on how the elements are split among calls.
bool converts(at::ScalarType from, at::ScalarType to);

}  // namespace shardplan::bindings
