#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace shardplan::pickle {

/// Appends the opcodes that push an int. They are those of Python's pickle in protocols 2 to 5.
void append_number(std::string& out, std::int64_t number);

/// Appends the opcodes that push a tuple of ints.
void append_tuple(std::string& out, std::span<const std::int64_t> numbers);

}  // namespace shardplan::pickle
