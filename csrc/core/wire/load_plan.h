#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/columns/plan.h"

namespace shardplan::wire {

/// A load plan's rows with the names that they point into.
struct NamedReads {
  columns::ReadColumns rows;
  std::vector<std::string> names;
};

/// The bytes of a load plan's names; empty where one is too long to travel.
std::string write_read_names(const std::vector<std::string>& names);

/// The bytes of a load plan's rows; empty where a row has too many dims to travel. kObject rows
/// keep their place.
std::string write_reads(const columns::ReadColumns& rows);

/// Reads what the two above wrote, `count` rows of it. Throws BadWire; allocates at most 6,000
/// bytes for each byte read.
NamedReads read_reads(std::string_view names, std::string_view rows, std::size_t count);

}  // namespace shardplan::wire
