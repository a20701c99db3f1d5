#include "bindings/torch/state_dict/property_table.h"

#include <torch/csrc/DynamicTypes.h>

#include <algorithm>

#include "bindings/torch/upstream/object_reader.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {
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
    case PropertyField::kMemoryFormat: return borrowed(UpstreamTypes::get().contiguous_format);
    case PropertyField::kPinMemory: return py::bool_(traits.pinned);
    case PropertyField::kStrides: return stride_tuple(traits.strides);
    case PropertyField::kUnknown: break;
  }
  throw py::value_error("unknown field of TensorProperties");
}

/// Returns true if values of this class are interchangeable when they are equal.
bool is_plain(PyObject* value) {
  const UpstreamTypes& types = UpstreamTypes::get();
  return value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value) ||
         PyUnicode_CheckExact(value) || PyBytes_CheckExact(value) ||
         Py_TYPE(value) == types.dtype || Py_TYPE(value) == types.layout ||
         Py_TYPE(value) == types.memory_format;
}

bool is_tuple_of_ints(PyObject* value) {
  if (!PyTuple_CheckExact(value)) return false;
  for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(value); ++at) {
    if (!PyLong_CheckExact(PyTuple_GET_ITEM(value, at))) return false;
  }
  return true;
}

/// Returns a hashable key, valid as long as the values live: equal for values that are
/// interchangeable.
py::tuple property_key(const PropertyValues& values) {
  py::tuple key(2 * values.size());
  for (std::size_t field = 0; field < values.size(); ++field) {
    PyObject* value = values[field].ptr();
    key[2 * field] = py::type::of(values[field]);
    if (is_plain(value) || is_tuple_of_ints(value)) {
      key[2 * field + 1] = values[field];
    } else if (PyFloat_CheckExact(value)) {
      key[2 * field + 1] = py::repr(values[field]);  // -0.0 equals 0.0, and NaN not itself.
    } else {
      key[2 * field + 1] = checked(PyLong_FromVoidPtr(value));
    }
  }
  return key;
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
  const UpstreamTypes& types = UpstreamTypes::get();
  TensorTraits traits{tensor.scalar_type(), tensor.layout(), requires_grad, false, {}};
  try {
    traits.pinned = tensor.is_pinned();
    if (types.has_property(PropertyField::kStrides)) traits.strides = tensor.strides().vec();
  } catch (const std::exception&) {
    return std::nullopt;
  }
  if (last_ && *last_ == traits) return last_row_;
  auto [entry, is_new] = by_traits_.try_emplace(traits, static_cast<std::uint32_t>(rows_.size()));
  if (is_new) {
    PropertyValues values;
    for (const PropertyField field : types.property_fields)
      values.push_back(value_of(field, traits));
    rows_.push_back(std::move(values));
  }
  last_ = std::move(traits);
  last_row_ = entry->second;
  return last_row_;
}

std::optional<std::uint32_t> PropertyTable::row_from_upstream(const py::object& tensor) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const py::object made =
      checked(PyObject_CallMethodOneArg(reinterpret_cast<PyObject*>(types.tensor_properties.type),
                                        types.create_from_tensor, tensor.ptr()));
  PropertyValues values;
  if (!read_properties(made.ptr(), values)) return std::nullopt;
  return row_of_equal(std::move(values));
}

std::uint32_t PropertyTable::row_of_equal(PropertyValues values) {
  const py::tuple key = property_key(values);
  const py::int_ next(rows_.size());
  const py::object row = by_values_.attr("setdefault")(key, next);
  if (row.is(next)) rows_.push_back(std::move(values));
  return row.cast<std::uint32_t>();
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

}  // namespace shardplan::bindings
