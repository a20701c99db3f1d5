#pragma once

#include <cstdint>
#include <string_view>

namespace shardplan::pickle {

/// Bytes of an element of a torch.dtype; 0 for what is no name of one, and for quantized dtypes,
/// whose elements are no values alone.
std::uint64_t dtype_size(std::string_view name);

/// The dtype of a class of storages in the module torch, as FloatStorage; empty for another name.
std::string_view dtype_of_storage(std::string_view name);

}  // namespace shardplan::pickle
