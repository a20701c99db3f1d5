#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/wire/bytes.h"

namespace shardplan::wire {

/// The longest name that travels; it bounds what a few bytes can make a reader allocate.
inline constexpr std::size_t kLongestName = 1024;

/// One element of the path of a name in a nested state dict: how many of the name's dotted parts it
/// takes, and whether it is an int.
struct PathElement {
  std::uint32_t parts;
  bool is_int;
  bool operator==(const PathElement&) const = default;
};
using PathShape = std::vector<PathElement>;

/// The names of a plan. The first `shape_of_name.size()` of them are the keys of its mappings, in
/// their order; joined by dots, the elements of a path give the name again.
struct PlanNames {
  std::vector<std::string> names;
  std::vector<PathShape> shapes;
  std::vector<std::uint32_t> shape_of_name;
};

/// Number of dotted parts of a name: one more than its dots.
std::size_t count_parts(std::string_view name);

/// Writes names, each as the parts that it does not share with the one before it; false where one
/// is too long to travel.
bool write_names(const PlanNames& names, ByteWriter& out);

/// Reads what `write_names` wrote. Throws BadWire; allocates at most 1,100 bytes for each byte
/// read.
PlanNames read_names(ByteReader& in);

}  // namespace shardplan::wire
