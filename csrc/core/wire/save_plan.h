#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/columns/plan.h"
#include "core/wire/bytes.h"
#include "core/wire/names.h"

namespace shardplan::wire {

/// Table of a save plan with its names and properties. The caller encodes the properties, one
/// string per row.
struct NamedTable {
  columns::SaveTable table;
  PlanNames names;
  std::vector<std::string> properties;
};

/// Encodes a table. Returns nothing if a name is longer than kLongestName or a tensor has more than
/// kMaxDims dims.
std::optional<std::string> write_table(const NamedTable& table);

/// Decodes the output of `write_table`. Throws BadWire.
NamedTable read_table(std::string_view bytes);

/// Encodes the rows of a save plan. Object rows are encoded by position only.
std::string write_rows(const columns::SavePlanView& view);

/// Decoded rows of a save plan.
struct ReceivedRows {
  columns::SaveRows rows;
  std::vector<std::int64_t> chunk_indices;  // empty if no row has one
};

/// Decodes `count` rows of a table. Throws BadWire. Allocates at most 3,000 bytes per byte read and
/// 24 per entry of the table.
ReceivedRows read_rows(std::string_view bytes, std::size_t count, const columns::SaveTable& table);

}  // namespace shardplan::wire
