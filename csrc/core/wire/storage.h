#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "core/columns/storage_rows.h"

namespace shardplan::wire {

/// Encodes the names of storage rows. Returns nothing if a name is longer than kLongestName or an
/// offset has more than kMaxDims dims.
std::optional<std::string> write_storage_names(const columns::StorageRows& rows);

/// Encodes storage rows and their paths.
std::string write_storage_rows(const columns::StorageRows& rows);

/// Decodes the output of `write_storage_names`. Throws BadWire.
util::TextTable read_storage_names(std::string_view bytes);

/// Decodes `count` rows that use `names`. Throws BadWire. Allocates at most 600 bytes per byte
/// read.
columns::StorageRows read_storage_rows(std::string_view bytes, std::size_t count,
                                       std::shared_ptr<const util::TextTable> names);

}  // namespace shardplan::wire
