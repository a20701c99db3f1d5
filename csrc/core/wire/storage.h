#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/columns/storage_rows.h"

namespace shardplan::wire {

/// The bytes of the names of storage rows; empty where one is too long to travel.
std::string write_storage_names(const columns::StorageRows& rows);

/// The bytes of storage rows: what differs by rank, paths among it.
std::string write_storage_rows(const columns::StorageRows& rows);

/// Reads what `write_storage_names` wrote. Throws BadWire.
util::TextTable read_storage_names(std::string_view bytes);

/// Reads `count` rows whose names are these. Throws BadWire; allocates at most 600 bytes for each
/// byte read.
columns::StorageRows read_storage_rows(std::string_view bytes, std::size_t count,
                                       std::shared_ptr<const util::TextTable> names);

}  // namespace shardplan::wire
