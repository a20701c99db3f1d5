#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "bindings/torch/item_maker.h"

namespace shardplan {

/// What TensorProperties says of a tensor.
struct TensorTraits {
  at::ScalarType dtype;
  at::Layout layout;
  bool requires_grad;
  bool pinned;
  std::vector<std::int64_t> strides;  // empty unless the installed torch records them

  bool operator==(const TensorTraits&) const = default;
};

/// The distinct tensor properties of a plan.
class PropertyTable {
 public:
  /// Row of the properties that `TensorProperties.create_from_tensor(tensor)` gives, with
  /// `requires_grad` in place of the tensor's. Nothing where upstream has to say.
  std::optional<std::uint32_t> row_of(const at::Tensor& tensor, bool requires_grad);

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
};

}  // namespace shardplan
