#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"

namespace shardplan::bindings {

/// What TensorProperties says of a tensor.
struct TensorTraits {
  at::ScalarType dtype;
  at::Layout layout;
  bool requires_grad;
  bool pinned;
  std::vector<std::int64_t> strides;  // empty unless the installed torch records them

  bool operator==(const TensorTraits&) const = default;
};

/// A hashable key, equal for values that can stand for each other: immutable ones that are equal
/// and of one class, else the same objects. Valid as long as the values live.
py::tuple property_key(const PropertyValues& values);

/// The distinct tensor properties of a plan.
class PropertyTable {
 public:
  /// Row of the properties that `TensorProperties.create_from_tensor(tensor)` gives, with
  /// `requires_grad` in place of the tensor's. Nothing where upstream has to answer. Call only if
  /// every field of the class is known.
  std::optional<std::uint32_t> row_of(const at::Tensor& tensor, bool requires_grad);

  /// Row of the properties that upstream's `create_from_tensor(tensor)` gives, which is called:
  /// for a TensorProperties with fields that native code does not know. Nothing where what it
  /// gives cannot be read.
  std::optional<std::uint32_t> row_from_upstream(const py::object& tensor);

  /// Row of the properties with these values, which are compared by identity.
  std::uint32_t row_of(PropertyValues values);

  std::vector<PropertyValues> take() { return std::move(rows_); }

 private:
  struct Hash {
    std::size_t operator()(const TensorTraits& traits) const;
  };

  std::vector<PropertyValues> rows_;
  std::unordered_map<TensorTraits, std::uint32_t, Hash> by_traits_;
  std::optional<TensorTraits> last_;
  std::uint32_t last_row_ = 0;
  std::optional<std::uint32_t> last_values_;
  py::dict by_values_;  // of rows from upstream
};

}  // namespace shardplan::bindings
