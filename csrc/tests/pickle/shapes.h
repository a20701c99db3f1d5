#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>

namespace shardplan::testing {

/// Family of adversarial pickles. Reading one must cost no more than its size allows.
struct PickleShape {
  const char* name;
  std::function<std::string(std::size_t)> of;  // pickle with the given number of parts
  const char* problem;  // substring of the error for 50,000 parts; "" if they are read
};

/// Prints the name.
void PrintTo(const PickleShape& shape, std::ostream* out);

std::span<const PickleShape> pickle_shapes();

}  // namespace shardplan::testing
