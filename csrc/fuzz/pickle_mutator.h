#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shardplan::fuzz {

/// Changes a pickle by whole opcodes: one is removed, repeated, moved or given another number, or
/// some are replaced by those of `other`. The lengths in frames and texts stay as they are.
///
/// Returns the pickle unchanged if it does not begin with an opcode.
std::string mutated_pickle(std::string_view pickle, std::string_view other, std::uint32_t seed);

}  // namespace shardplan::fuzz
