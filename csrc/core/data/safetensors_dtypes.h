#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace shardplan::data {

/// Data type of a safetensors file.
struct SafetensorsDtype {
  std::string_view name;   // in a header
  std::string_view torch;  // empty if torch has no such dtype
  std::uint64_t bits;
};

/// All data types. The library writes the tensors of the last one first.
inline constexpr std::array kSafetensorsDtypes{
    SafetensorsDtype{"BOOL", "bool", 8},
    SafetensorsDtype{"F4", "", 4},
    SafetensorsDtype{"F6_E2M3", "", 6},
    SafetensorsDtype{"F6_E3M2", "", 6},
    SafetensorsDtype{"U8", "uint8", 8},
    SafetensorsDtype{"I8", "int8", 8},
    SafetensorsDtype{"F8_E5M2", "float8_e5m2", 8},
    SafetensorsDtype{"F8_E4M3", "float8_e4m3fn", 8},
    SafetensorsDtype{"F8_E8M0", "float8_e8m0fnu", 8},
    SafetensorsDtype{"F8_E4M3FNUZ", "float8_e4m3fnuz", 8},
    SafetensorsDtype{"F8_E5M2FNUZ", "float8_e5m2fnuz", 8},
    SafetensorsDtype{"I16", "int16", 16},
    SafetensorsDtype{"U16", "uint16", 16},
    SafetensorsDtype{"F16", "float16", 16},
    SafetensorsDtype{"BF16", "bfloat16", 16},
    SafetensorsDtype{"I32", "int32", 32},
    SafetensorsDtype{"U32", "uint32", 32},
    SafetensorsDtype{"F32", "float32", 32},
    SafetensorsDtype{"C64", "complex64", 64},
    SafetensorsDtype{"F64", "float64", 64},
    SafetensorsDtype{"I64", "int64", 64},
    SafetensorsDtype{"U64", "uint64", 64},
};

}  // namespace shardplan::data
