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
  std::uint32_t size_class = 0, chunk_class = 0, tensor_class = 0, bytes_class = 0, index_class = 0,
                location_class = 0;
  std::uint32_t offsets = 0, sizes = 0, properties = 0, size = 0, chunks = 0, fqn = 0, index = 0,
                offset = 0, relative_path = 0, length = 0;
};

/// The classes that records are of; a file names no other.
struct RecordClasses {
  bool size = false;      // torch.Size
  bool chunk = false;     // ChunkStorageMetadata
  bool tensor = false;    // TensorStorageMetadata
  bool bytes = false;     // BytesStorageMetadata
  bool index = false;     // MetadataIndex
  bool location = false;  // _StorageInfo
};

/// Returns the classes of the records of a state_dict_metadata and of a storage_data; each may be
/// null.
RecordClasses classes_of(const columns::SavedChunks* chunks, const columns::StorageRows* rows);

/// The parts of a state_dict_metadata that native code does not write, as opcodes that push them.
struct EntryPickles {
  std::uint32_t first_name = 0;         // memo slot of the key of entry 0; the others follow
  std::vector<std::string> properties;  // the TensorProperties of each row of properties
  /// Returns the value of a kObject entry. It is called once for each, in order.
  std::function<std::string(std::size_t entry)> objects;
};

/// Writes a state_dict_metadata.
void write_entries(pickle::Writer& out, const MetadataMemo& memo,
                   const columns::SavedChunks& chunks, const EntryPickles& pickles);

/// Writes a storage_data. `first_name` and `first_path` are the memo slots of the first name and of
/// the first path.
void write_storage(pickle::Writer& out, const MetadataMemo& memo, const columns::StorageRows& rows,
                   std::uint32_t first_name, std::uint32_t first_path);

/// Number of items that pickle appends to a list or dict at once.
inline constexpr std::size_t kBatch = 1000;

}  // namespace shardplan::metadata
