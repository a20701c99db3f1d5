#pragma once

#include <string>
#include <string_view>

#include "core/columns/saved_chunks.h"
#include "core/wire/save_plan.h"

namespace shardplan::wire {

/// Encodes the chunks of a `state_dict_metadata`. The table is encoded apart, by `write_table`.
std::string write_chunks(const columns::SavedChunks& chunks);

/// Decodes the output of `write_chunks`. Throws BadWire.
///
/// The result takes at most 1,024 bytes per byte read (a chunk that spans a tensor of 64 dims is
/// encoded in one byte) and 16 per entry of the table. Growth of vectors can allocate up to four
/// times that in total.
columns::SavedChunks read_chunks(std::string_view bytes, columns::SaveTable table);

}  // namespace shardplan::wire
