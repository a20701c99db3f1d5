#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/columns/storage_rows.h"

namespace shardplan {

/// The bytes of the names of storage rows; empty where one is too long to travel.
std::string write_storage_names(const StorageRows& rows);

/// The bytes of storage rows: what differs by rank, paths among it.
std::string write_storage_rows(const StorageRows& rows);

/// Reads what `write_storage_names` wrote. Throws BadWire.
TextTable read_storage_names(std::string_view bytes);

/// Reads `count` rows whose names are these. Throws BadWire; allocates at most 600 bytes for each
/// byte read.
StorageRows read_storage_rows(std::string_view bytes, std::size_t count,
                              std::shared_ptr<const TextTable> names);

}  // namespace shardplan
