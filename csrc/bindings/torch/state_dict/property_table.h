#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"

namespace shardplan::bindings {

/// The fields of a TensorProperties.
struct TensorTraits {
  at::ScalarType dtype;
  at::Layout layout;
  bool requires_grad;
  bool pinned;
  std::vector<std::int64_t> strides;  // empty unless the installed torch records them

  bool operator==(const TensorTraits&) const = default;
};

/// The distinct tensor properties of a plan or of a metadata, one row each.
class PropertyTable {
 public:
  /// Returns the row of `TensorProperties.create_from_tensor(tensor)`, with `requires_grad` in
  /// place of the tensor's, or nothing if upstream has to answer. Call only if every field of the
  /// class is known.
  std::optional<std::uint32_t> row_of(const at::Tensor& tensor, bool requires_grad);

  /// Returns the row of the same properties, made by upstream: for a TensorProperties with fields
  /// that native code does not know. Returns nothing if upstream's object cannot be read.
  std::optional<std::uint32_t> row_from_upstream(const py::object& tensor);

  /// Returns the row of these values. They share a row with the values of the last call if all are
  /// the same objects.
  std::uint32_t row_of(PropertyValues values);

  /// Returns the row of values that are interchangeable with these: immutable values that are equal
  /// and of one class, or the same objects.
  std::uint32_t row_of_equal(PropertyValues values);

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
  py::dict by_values_;
};

}  // namespace shardplan::bindings
