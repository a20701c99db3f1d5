#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/wire/bytes.h"

namespace shardplan::wire {

/// Maximum length of a name in bytes. Limits the memory that a reader allocates per byte read.
inline constexpr std::size_t kLongestName = 1024;

/// One element of the path of a name in a nested state dict: the number of dotted parts of the name
/// that it spans, and whether it is an int.
struct PathElement {
  std::uint32_t parts;
  bool is_int;
  bool operator==(const PathElement&) const = default;
};
using PathShape = std::vector<PathElement>;

/// Names of a plan. The first `shape_of_name.size()` names are the keys of its mappings, in order.
/// The elements of a path joined by dots are equal to the name.
struct PlanNames {
  std::vector<std::string> names;
  std::vector<PathShape> shapes;
  std::vector<std::uint32_t> shape_of_name;
};

/// Returns the number of dotted parts of a name, i.e. its number of dots plus one.
std::size_t count_parts(std::string_view name);

/// Encodes names; the parts that a name shares with the name before it are omitted. Returns false
/// if a name is longer than kLongestName.
[[nodiscard]] bool write_names(const PlanNames& names, ByteWriter& out);

/// Decodes the output of `write_names`. Throws BadWire. Allocates at most 1,100 bytes per byte
/// read.
PlanNames read_names(ByteReader& in);

}  // namespace shardplan::wire
