#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>

namespace shardplan::testing {

/// A kind of pickle that no pickler writes: its size is all that reading it may cost.
struct PickleShape {
  const char* name;
  std::function<std::string(std::size_t)> of;  // a file of so many parts
  const char* problem;  // part of what is said of 50,000 parts; "" where they are read
};

/// By its name.
void PrintTo(const PickleShape& shape, std::ostream* out);

std::span<const PickleShape> pickle_shapes();

}  // namespace shardplan::testing
