#pragma once

#include <string>

#include "core/data/tensor_part.h"

namespace shardplan::data {

/// Returns the pickle that torch.save writes for a plain CPU tensor which does not require a
/// gradient, with its storage under key "0". Returns an empty string if the dtype has no name in
/// the format that native code knows.
///
/// tensor: `dtype`, `shape`, `strides`, `storage_offset`, `element_size` and `storage_size` are
/// used
std::string pickle_of_tensor(const StoredTensor& tensor);

}  // namespace shardplan::data
