#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/columns/saved_chunks.h"
#include "core/columns/storage_rows.h"
#include "core/pickle/machine.h"

namespace shardplan::metadata {

/// Contents of a pickled `Metadata`. The large parts are columns.
struct PickledMetadata {
  /// Name numbers are those of the texts of the pickle.
  columns::SavedChunks chunks;
  std::vector<pickle::Value> properties;  // per property row: its TensorProperties
  /// Per entry of `chunks`: its key and value in the pickle.
  std::vector<std::pair<pickle::Value, pickle::Value>> entries;
  /// Rows of storage_data. With Purpose::kObjects, nullopt if it is not a dict of MetadataIndex to
  /// _StorageInfo with distinct keys and unshared values.
  std::optional<columns::StorageRows> storage;
  /// True if `chunks` represents state_dict_metadata: it is a dict with distinct string keys and,
  /// with Purpose::kObjects, its tensors share no objects.
  bool has_chunks = false;
  /// Rows of `storage` whose location has further attributes (e.g. transforms of the bytes),
  /// ascending. Set with Purpose::kInspect only.
  std::vector<std::size_t> transformed;
  /// Number of items of storage_data without a readable location. Set with Purpose::kInspect only.
  std::size_t unreadable_locations = 0;
  /// Names and values of all attributes, in order.
  std::vector<std::pair<pickle::Value, pickle::Value>> attributes;
};

/// Use of the columns.
enum class Purpose : std::uint8_t {
  kObjects,  // columns represent the objects exactly; anything else stays a pickled value
  kInspect,  // read-only inspection; sharing and extra attributes are ignored
};

/// Returns the columns of a pickled Metadata, or nullopt if the root is not a Metadata. `texts` are
/// the texts of the pickle; they become the names and paths of `storage`. Throws BadPickle if
/// repeated references make the columns exceed 8 values per byte of the pickle plus 2^20.
std::optional<PickledMetadata> read_pickled_metadata(
    const pickle::Pickle& pickle, const std::shared_ptr<const util::TextTable>& texts,
    Purpose purpose = Purpose::kObjects);

/// Returns the names and values of the attributes of an object, in order. Returns nullopt if the
/// value is not an object whose state is a dict with distinct string keys.
std::optional<std::vector<std::pair<pickle::Value, pickle::Value>>> attributes_of(
    const pickle::Values& values, pickle::Value object);

}  // namespace shardplan::metadata
