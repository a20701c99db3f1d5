#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shardplan::util {

/// Returns the first 200 bytes of untrusted text in a form safe for error messages: every byte that
/// is not printable ASCII is replaced by '?'.
std::string printable(std::string_view text);

/// Returns a decimal number with thousands separators, e.g. "1,234,567".
std::string grouped(std::uint64_t number);

}  // namespace shardplan::util
