#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/columns/plan.h"
#include "core/wire/bytes.h"
#include "core/wire/names.h"

namespace shardplan::wire {

/// A save plan's table with the names and properties that its numbers point into. What properties
/// say is the caller's, one string a row of its table.
struct NamedTable {
  columns::SaveTable table;
  PlanNames names;
  std::vector<std::string> properties;
};

/// The bytes of a table; empty where it cannot travel (a name too long, too many dims).
std::string write_table(const NamedTable& table);

/// Reads what `write_table` wrote. Throws BadWire.
NamedTable read_table(std::string_view bytes);

/// The bytes of a plan's rows: what differs by rank. kObject rows keep their place.
std::string write_rows(const columns::SavePlanView& view);

/// A plan's rows as they arrived.
struct ReceivedRows {
  columns::SaveRows rows;
  std::vector<std::int64_t> chunk_indices;  // empty: none has one
};

/// Reads `count` rows of a table. Throws BadWire; allocates at most 3,000 bytes for each byte read
/// and 24 for each entry of the table.
ReceivedRows read_rows(std::string_view bytes, std::size_t count, const columns::SaveTable& table);

}  // namespace shardplan::wire
