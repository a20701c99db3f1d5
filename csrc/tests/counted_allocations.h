#pragma once

#include <cstddef>

namespace shardplan::testing {

/// Bytes that operator new has given out so far, freed or not. It counts in the executable that
/// links counted_allocations.cpp.
std::size_t allocated_bytes();

}  // namespace shardplan::testing
