#pragma once

#include <array>
#include <string_view>

namespace shardplan::bindings {

// Every difference between the supported releases of torch (2.11 to 2.15) that native code handles.
// Each is found by attribute when the module is imported, never by version number. Differences that
// Python code handles are in python/shardplan/dcp/upstream/versions.py; docs/architecture.md says
// what to change for a new release.

/// How native code reads a field of the installed torch's TensorProperties from a tensor. The value
/// of an unknown field is a Python object, which only `TensorProperties.create_from_tensor` makes.
enum class PropertyField {
  kDtype,
  kLayout,
  kRequiresGrad,
  kMemoryFormat,
  kPinMemory,
  kStrides,  // torch 2.15
  kUnknown
};

inline PropertyField property_field(std::string_view name) {
  if (name == "dtype") return PropertyField::kDtype;
  if (name == "layout") return PropertyField::kLayout;
  if (name == "requires_grad") return PropertyField::kRequiresGrad;
  if (name == "memory_format") return PropertyField::kMemoryFormat;
  if (name == "pin_memory") return PropertyField::kPinMemory;
  if (name == "strides") return PropertyField::kStrides;
  return PropertyField::kUnknown;
}

/// The complex dtype of two bfloat16, in torch 2.14 and later; Undefined if there is none.
template <class ScalarType>
constexpr ScalarType bcomplex32() {
  if constexpr (requires { ScalarType::BComplex32; }) {
    return ScalarType::BComplex32;
  } else {
    return ScalarType::Undefined;
  }
}

// The fields of upstream's dataclasses, in order. Objects of a class with other fields are created
// by calling the class, and are not read natively.
inline constexpr std::array<std::string_view, 4> kWriteItemFields{"index", "type", "bytes_io_data",
                                                                  "tensor_data"};
inline constexpr std::array<std::string_view, 6> kReadItemFields{
    "type", "dest_index", "dest_offsets", "storage_index", "storage_offsets", "lengths"};
inline constexpr std::array<std::string_view, 3> kTensorWriteDataFields{"chunk", "properties",
                                                                        "size"};
inline constexpr std::array<std::string_view, 3> kMetadataIndexFields{"fqn", "offset", "index"};
inline constexpr std::array<std::string_view, 2> kChunkFields{"offsets", "sizes"};
inline constexpr std::array<std::string_view, 3> kTensorMetadataFields{"properties", "size",
                                                                       "chunks"};
inline constexpr std::array<std::string_view, 4> kStorageInfoFields{
    "relative_path", "offset", "length", "transform_descriptors"};
inline constexpr std::array<std::string_view, 3> kHfStorageInfoFields{"relative_path", "shape",
                                                                      "dtype"};
inline constexpr std::array<std::string_view, 3> kWriteResultFields{"index", "size_in_bytes",
                                                                    "storage_data"};

}  // namespace shardplan::bindings
