#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/columns/saved_chunks.h"
#include "core/columns/storage_rows.h"
#include "core/pickle/writer.h"

namespace shardplan::metadata {

/// Memo slots of the classes and attribute names used by every record.
struct MetadataMemo {
  std::uint32_t size_class, chunk_class, tensor_class, bytes_class, index_class, location_class;
  std::uint32_t offsets, sizes, properties, size, chunks, fqn, index, offset, relative_path, length;
};

/// Parts of state_dict_metadata that the caller pickles.
struct EntryPickles {
  std::uint32_t first_name = 0;         // memo slot of the first key; the other keys follow
  std::vector<std::string> properties;  // per property row: opcodes of its TensorProperties
  std::function<std::string(std::size_t)> objects;  // opcodes of the value of a kObject entry
};

/// Writes a state_dict_metadata.
void write_entries(pickle::Writer& out, const MetadataMemo& memo,
                   const columns::SavedChunks& chunks, const EntryPickles& pickles);

/// Writes a storage_data. `first_name` and `first_path` are the memo slots of the first name and
/// the first path; the others follow.
void write_storage(pickle::Writer& out, const MetadataMemo& memo, const columns::StorageRows& rows,
                   std::uint32_t first_name, std::uint32_t first_path);

/// Number of items that pickle adds to a list or dict per opcode.
inline constexpr std::size_t kBatch = 1000;

}  // namespace shardplan::metadata
