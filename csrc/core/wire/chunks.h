#pragma once

#include <string>
#include <string_view>

#include "core/columns/saved_chunks.h"
#include "core/wire/save_plan.h"

namespace shardplan::wire {

/// The bytes of the chunks of a `state_dict_metadata`, whose table travels as `write_table` has it.
std::string write_chunks(const columns::SavedChunks& chunks);

/// Reads what `write_chunks` wrote of this table. Throws BadWire; keeps at most 1,024 bytes for
/// each byte received, and 16 for each entry of the table. It can not be fewer: a chunk that is all
/// of a tensor of 64 dims takes one byte, and a chunk may be there more than once. A vector that
/// grows asks for four times that in all.
columns::SavedChunks read_chunks(std::string_view bytes, columns::SaveTable table);

}  // namespace shardplan::wire
