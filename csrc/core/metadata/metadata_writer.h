#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/columns/saved_chunks.h"
#include "core/columns/storage_rows.h"
#include "core/metadata/records.h"
#include "core/pickle/writer.h"

namespace shardplan::metadata {

/// The classes that records are of; a file names no other.
struct RecordClasses {
  bool size = false;             // torch.Size
  bool chunk = false;            // ChunkStorageMetadata
  bool tensor = false;           // TensorStorageMetadata
  bool bytes = false;            // BytesStorageMetadata
  bool index = false;            // MetadataIndex
  bool location = false;         // _StorageInfo
  bool plan = false;             // SavePlan
  bool item = false;             // WriteItem
  bool data = false;             // TensorWriteData
  std::array<bool, 4> writes{};  // per WriteKind: whether its member of WriteItemType is used

  bool write(columns::WriteKind kind) const { return writes[static_cast<std::size_t>(kind)]; }
};

/// Returns the classes of the records of a state_dict_metadata and of a storage_data, each of which
/// may be null, and of plans.
RecordClasses classes_of(const columns::SavedChunks* chunks, const columns::StorageRows* rows,
                         std::span<const columns::SavePlanView> plans = {});

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

/// Writes the list of items of a plan, none of which is a kObject row. Per name and per property
/// row of the table: the memo slot of the name, and the TensorProperties as opcodes.
void write_items(pickle::Writer& out, const MetadataMemo& memo, const columns::SavePlanView& plan,
                 std::span<const std::uint32_t> name_slots,
                 std::span<const std::string> properties);

}  // namespace shardplan::metadata
