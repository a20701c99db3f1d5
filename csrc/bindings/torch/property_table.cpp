#include "bindings/torch/property_table.h"

#include <torch/csrc/DynamicTypes.h>

#include <algorithm>

#include "bindings/torch/stock_types.h"

namespace shardplan {
namespace {

py::object borrowed(const void* object) {
  return py::reinterpret_borrow<py::object>(static_cast<PyObject*>(const_cast<void*>(object)));
}

py::object stride_tuple(const std::vector<std::int64_t>& strides) {
  py::tuple tuple(strides.size());
  for (std::size_t i = 0; i < strides.size(); ++i) tuple[i] = py::int_(strides[i]);
  return tuple;
}

py::object value_of(PropertyField field, const TensorTraits& traits) {
  switch (field) {
    case PropertyField::kDtype: return borrowed(torch::getTHPDtype(traits.dtype));
    case PropertyField::kLayout: return borrowed(torch::getTHPLayout(traits.layout));
    case PropertyField::kRequiresGrad: return py::bool_(traits.requires_grad);
    case PropertyField::kMemoryFormat: return borrowed(StockTypes::get().contiguous_format);
    case PropertyField::kPinMemory: return py::bool_(traits.pinned);
    case PropertyField::kStrides: return stride_tuple(traits.strides);
  }
  throw py::value_error("unknown field of TensorProperties");
}

bool records_strides() {
  const auto& fields = StockTypes::get().property_fields;
  return std::find(fields.begin(), fields.end(), PropertyField::kStrides) != fields.end();
}

}  // namespace

std::size_t PropertyTable::Hash::operator()(const TensorTraits& traits) const {
  std::size_t hash = static_cast<std::size_t>(traits.dtype) * 8 +
                     static_cast<std::size_t>(traits.layout) * 4 +
                     (traits.requires_grad ? 2U : 0U) + (traits.pinned ? 1U : 0U);
  for (const std::int64_t stride : traits.strides) {
    hash = hash * 1000003U + static_cast<std::size_t>(stride);
  }
  return hash;
}

std::optional<std::uint32_t> PropertyTable::row_of(const at::Tensor& tensor, bool requires_grad) {
  const StockTypes& stock = StockTypes::get();
  if (stock.property_fields.empty()) return std::nullopt;
  TensorTraits traits{tensor.scalar_type(), tensor.layout(), requires_grad, false, {}};
  try {
    traits.pinned = tensor.is_pinned();
    if (records_strides()) traits.strides = tensor.strides().vec();
  } catch (const std::exception&) {
    return std::nullopt;
  }
  if (last_ && *last_ == traits) return last_row_;
  auto [entry, is_new] = by_traits_.try_emplace(traits, static_cast<std::uint32_t>(rows_.size()));
  if (is_new) {
    PropertyValues values;
    for (const PropertyField field : stock.property_fields)
      values.push_back(value_of(field, traits));
    rows_.push_back(std::move(values));
  }
  last_ = std::move(traits);
  last_row_ = entry->second;
  return last_row_;
}

std::uint32_t PropertyTable::row_of(PropertyValues values) {
  const auto same = [](const py::object& a, const py::object& b) { return a.is(b); };
  if (last_values_ &&
      std::equal(values.begin(), values.end(), rows_[*last_values_].begin(), same)) {
    return *last_values_;
  }
  last_values_ = static_cast<std::uint32_t>(rows_.size());
  rows_.push_back(std::move(values));
  return *last_values_;
}

}  // namespace shardplan
