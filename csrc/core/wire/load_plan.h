#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/columns/plan.h"

namespace shardplan::wire {

/// Rows of a load plan and the names that they index.
struct NamedReads {
  columns::ReadColumns rows;
  std::vector<std::string> names;
};

/// Encodes the names of a load plan. Returns nothing if one is longer than kLongestName.
std::optional<std::string> write_read_names(const std::vector<std::string>& names);

/// Encodes the rows of a load plan. Returns nothing if a row has more than kMaxDims dims. Object
/// rows are encoded by position only.
std::optional<std::string> write_reads(const columns::ReadColumns& rows);

/// Decodes `count` rows and their names. Throws BadWire. Allocates at most 6,000 bytes per byte
/// read.
NamedReads read_reads(std::string_view names, std::string_view rows, std::size_t count);

}  // namespace shardplan::wire
