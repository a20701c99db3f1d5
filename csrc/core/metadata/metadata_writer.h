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

/// Where the pickle of a Metadata keeps in its memo what every record of it names.
struct MetadataMemo {
  std::uint32_t size_class, chunk_class, tensor_class, bytes_class, index_class, location_class;
  std::uint32_t offsets, sizes, properties, size, chunks, fqn, index, offset, relative_path, length;
};

/// The parts of state_dict_metadata that others have pickled.
struct EntryPickles {
  std::uint32_t first_name = 0;                     // of the entries' keys in the memo
  std::vector<std::string> properties;              // a row of properties: its TensorProperties
  std::function<std::string(std::size_t)> objects;  // a kObject entry: its value
};

/// Writes a state_dict_metadata.
void write_entries(pickle::Writer& out, const MetadataMemo& memo,
                   const columns::SavedChunks& chunks, const EntryPickles& pickles);

/// Writes a storage_data. The memo has names and paths from `first_name` and `first_path` on.
void write_storage(pickle::Writer& out, const MetadataMemo& memo, const columns::StorageRows& rows,
                   std::uint32_t first_name, std::uint32_t first_path);

/// Items that pickle puts into a list or dict at once.
inline constexpr std::size_t kBatch = 1000;

}  // namespace shardplan::metadata
