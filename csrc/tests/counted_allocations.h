#pragma once

#include <cstddef>

namespace shardplan::testing {

/// Returns the total of bytes allocated by operator new so far, including freed ones. Requires
/// linking counted_allocations.cpp.
std::size_t allocated_bytes();

}  // namespace shardplan::testing
