#pragma once

#include <string>
#include <string_view>

#include "core/saved_chunks.h"
#include "core/wire_save.h"

namespace shardplan {

/// The bytes of the chunks of a `state_dict_metadata`, whose table travels as `write_table` has it.
std::string write_chunks(const SavedChunks& chunks);

/// Reads what `write_chunks` wrote of this table. Throws BadWire; allocates at most 1,100 bytes for
/// each byte read, and 16 for each entry of the table.
SavedChunks read_chunks(std::string_view bytes, SaveTable table);

}  // namespace shardplan
