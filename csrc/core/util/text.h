#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shardplan::util {

/// The first 200 characters of a received text, as an error can show it: any character that is not
/// printable ASCII becomes '?'.
std::string printable(std::string_view text);

/// A number with its digits in groups of three, as 1,234,567.
std::string grouped(std::uint64_t number);

}  // namespace shardplan::util
