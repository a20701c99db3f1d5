#include "bindings/torch/data/target_tensor.h"

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <array>
#include <utility>

#include "bindings/torch/state_dict/dtensor_reader.h"
#include "bindings/torch/upstream/versions.h"
#include "core/data/strided_copy.h"

namespace shardplan::bindings {
namespace {

/// Dtypes that `Tensor.copy_` copies.
constexpr std::array kTypes{
    std::pair<std::string_view, at::ScalarType>{"float32", at::kFloat},
    std::pair<std::string_view, at::ScalarType>{"bfloat16", at::kBFloat16},
    std::pair<std::string_view, at::ScalarType>{"float16", at::kHalf},
    std::pair<std::string_view, at::ScalarType>{"float64", at::kDouble},
    std::pair<std::string_view, at::ScalarType>{"int64", at::kLong},
    std::pair<std::string_view, at::ScalarType>{"int32", at::kInt},
    std::pair<std::string_view, at::ScalarType>{"int16", at::kShort},
    std::pair<std::string_view, at::ScalarType>{"int8", at::kChar},
    std::pair<std::string_view, at::ScalarType>{"uint8", at::kByte},
    std::pair<std::string_view, at::ScalarType>{"bool", at::kBool},
    std::pair<std::string_view, at::ScalarType>{"uint16", at::kUInt16},
    std::pair<std::string_view, at::ScalarType>{"uint32", at::kUInt32},
    std::pair<std::string_view, at::ScalarType>{"uint64", at::kUInt64},
    std::pair<std::string_view, at::ScalarType>{"complex32", at::kComplexHalf},
    std::pair<std::string_view, at::ScalarType>{"bcomplex32", bcomplex32<at::ScalarType>()},
    std::pair<std::string_view, at::ScalarType>{"complex64", at::kComplexFloat},
    std::pair<std::string_view, at::ScalarType>{"complex128", at::kComplexDouble},
    std::pair<std::string_view, at::ScalarType>{"float8_e4m3fn", at::kFloat8_e4m3fn},
    std::pair<std::string_view, at::ScalarType>{"float8_e5m2", at::kFloat8_e5m2},
    std::pair<std::string_view, at::ScalarType>{"float8_e4m3fnuz", at::kFloat8_e4m3fnuz},
    std::pair<std::string_view, at::ScalarType>{"float8_e5m2fnuz", at::kFloat8_e5m2fnuz},
    std::pair<std::string_view, at::ScalarType>{"float8_e8m0fnu", at::kFloat8_e8m0fnu},
};

/// Returns whether a tensor has the dispatch keys of a plain tensor of its device, and no others:
/// those of subclasses, of functorch and of lazy conjugation and negation.
bool has_plain_keys(const at::Tensor& tensor) {
  static const std::uint64_t plain = [] {
    const c10::InferenceMode off(false);
    return at::empty({0}).key_set().raw_repr() |
           c10::DispatchKeySet(c10::BackendComponent::CUDABit).raw_repr() |
           c10::DispatchKeySet(c10::DispatchKey::AutocastCUDA).raw_repr();
  }();
  return (tensor.key_set().raw_repr() & ~plain) == 0;
}

}  // namespace

bool is_plain_strided(const at::Tensor& tensor) {
  return tensor.defined() && is_dense(tensor) && tensor.has_storage() &&
         (tensor.is_cpu() || tensor.is_cuda()) && has_plain_keys(tensor);
}

bool storage_has_all_elements(const at::Tensor& tensor) {
  std::uint64_t reach = static_cast<std::uint64_t>(tensor.storage_offset()) + 1;
  for (std::int64_t dim = 0; dim < tensor.dim(); ++dim) {
    reach += static_cast<std::uint64_t>(tensor.size(dim) - 1) *
             static_cast<std::uint64_t>(tensor.stride(dim));
  }
  return reach * tensor.itemsize() <= tensor.storage().nbytes();
}

std::optional<std::string_view> dtype_of(at::ScalarType type) {
  for (const auto& [name, known] : kTypes) {
    if (known == type) return name;
  }
  return std::nullopt;
}

std::optional<TargetTensor> target_of(const at::Tensor& tensor) {
  if (!is_plain_strided(tensor) || (tensor.is_inference() && !c10::InferenceMode::is_enabled()) ||
      !data::is_without_overlap({tensor.sizes().data(), tensor.sizes().size()},
                                {tensor.strides().data(), tensor.strides().size()})) {
    return std::nullopt;
  }
  const auto name = dtype_of(tensor.scalar_type());
  if (!name) return std::nullopt;
  TargetTensor target{tensor, *name, nullptr};
  if (tensor.numel() == 0) return target;
  if (!storage_has_all_elements(tensor)) return std::nullopt;
  if (tensor.is_cpu()) target.data = static_cast<char*>(tensor.mutable_data_ptr());
  return target;
}

at::Tensor narrow(const at::Tensor& tensor, std::span<const std::int64_t> offsets,
                  std::span<const std::int64_t> lengths) {
  const auto ndim = static_cast<std::size_t>(tensor.dim());
  if (ndim != lengths.size() || ndim != offsets.size()) return {};
  at::Tensor narrowed = tensor;
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    const auto at = static_cast<std::int64_t>(dim);
    const std::int64_t size = tensor.size(at);
    if (size == lengths[dim]) continue;
    if (lengths[dim] < 0 || offsets[dim] < 0 || offsets[dim] > size ||
        lengths[dim] > size - offsets[dim]) {
      return {};
    }
    narrowed = narrowed.narrow(at, offsets[dim], lengths[dim]);
  }
  return narrowed;
}

std::optional<at::ScalarType> scalar_type_of(std::string_view dtype) {
  for (const auto& [name, type] : kTypes) {
    if (name == dtype && type != at::ScalarType::Undefined) return type;
  }
  return std::nullopt;
}

bool converts(at::ScalarType from, at::ScalarType to) {
  if (from == to) return true;
  const auto is_usual = [](at::ScalarType type) {
    return type == at::kFloat || type == at::kDouble || type == at::kHalf ||
           type == at::kBFloat16 || type == at::kBool || type == at::kByte ||
           (at::isIntegralType(type, false) && at::isSignedType(type));
  };
  if (!is_usual(from) || !is_usual(to)) return false;
  // Out of range, the result of a conversion to int depends on the instruction.
  return !(at::isFloatingType(from) && at::isIntegralType(to, false));
}

}  // namespace shardplan::bindings
