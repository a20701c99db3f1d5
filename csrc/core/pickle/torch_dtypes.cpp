#include "core/pickle/torch_dtypes.h"

#include <algorithm>
#include <iterator>

namespace shardplan::pickle {
namespace {

struct Dtype {
  std::string_view name;
  std::uint64_t size;
};

constexpr Dtype kDtypes[] = {
    {"float32", 4},
    {"bfloat16", 2},
    {"float16", 2},
    {"float64", 8},
    {"int64", 8},
    {"int32", 4},
    {"int16", 2},
    {"int8", 1},
    {"uint8", 1},
    {"bool", 1},
    {"uint16", 2},
    {"uint32", 4},
    {"uint64", 8},
    {"float8_e4m3fn", 1},
    {"float8_e4m3fnuz", 1},
    {"float8_e5m2", 1},
    {"float8_e5m2fnuz", 1},
    {"float8_e8m0fnu", 1},
    {"float4_e2m1fn_x2", 1},
    {"complex32", 4},
    {"bcomplex32", 4},
    {"complex64", 8},
    {"complex128", 16},
    {"bits8", 1},
    {"bits16", 2},
    {"bits1x8", 1},
    {"bits2x4", 1},
    {"bits4x2", 1},
    {"int1", 1},
    {"int2", 1},
    {"int3", 1},
    {"int4", 1},
    {"int5", 1},
    {"int6", 1},
    {"int7", 1},
    {"uint1", 1},
    {"uint2", 1},
    {"uint3", 1},
    {"uint4", 1},
    {"uint5", 1},
    {"uint6", 1},
    {"uint7", 1},
};

struct Storage {
  std::string_view name;
  std::string_view dtype;
};

constexpr Storage kStorages[] = {
    {"FloatStorage", "float32"},
    {"BFloat16Storage", "bfloat16"},
    {"HalfStorage", "float16"},
    {"DoubleStorage", "float64"},
    {"LongStorage", "int64"},
    {"IntStorage", "int32"},
    {"ShortStorage", "int16"},
    {"CharStorage", "int8"},
    {"ByteStorage", "uint8"},
    {"BoolStorage", "bool"},
    {"ComplexFloatStorage", "complex64"},
    {"ComplexDoubleStorage", "complex128"},
};

}  // namespace

std::uint64_t dtype_size(std::string_view name) {
  const auto* const found = std::ranges::find(kDtypes, name, &Dtype::name);
  return found == std::end(kDtypes) ? 0 : found->size;
}

std::string_view dtype_of_storage(std::string_view name) {
  const auto* const found = std::ranges::find(kStorages, name, &Storage::name);
  return found == std::end(kStorages) ? std::string_view{} : found->dtype;
}

std::string_view storage_of_dtype(std::string_view name) {
  const auto* const found = std::ranges::find(kStorages, name, &Storage::dtype);
  return found == std::end(kStorages) ? std::string_view{} : found->name;
}

}  // namespace shardplan::pickle
