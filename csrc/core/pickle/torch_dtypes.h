#pragma once

#include <cstdint>
#include <string_view>

namespace shardplan::pickle {

/// Returns the element size in bytes of a torch.dtype given by name, e.g. "float32"; 0 for unknown
/// names and for quantized dtypes.
std::uint64_t dtype_size(std::string_view name);

/// Returns the dtype of a typed storage class of module `torch`, e.g. "FloatStorage"; empty for
/// unknown names.
std::string_view dtype_of_storage(std::string_view name);

/// Returns the typed storage class of a dtype; empty for dtypes that have none.
std::string_view storage_of_dtype(std::string_view name);

}  // namespace shardplan::pickle
