#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/columns/saved_chunks.h"
#include "core/columns/storage_rows.h"
#include "core/pickle/machine.h"

namespace shardplan::metadata {

/// A `Metadata` that a pickle holds, its large parts as columns.
struct PickledMetadata {
  /// Names are texts of the pickle.
  columns::SavedChunks chunks;
  std::vector<pickle::Value> properties;  // a row of properties: a TensorProperties
  /// An entry of `chunks`: its key and value as they are in the pickle.
  std::vector<std::pair<pickle::Value, pickle::Value>> entries;
  /// storage_data; nothing where it is not a dict of MetadataIndex -> _StorageInfo, each once.
  std::optional<columns::StorageRows> storage;
  /// Whether state_dict_metadata is in `chunks`: a dict whose keys are texts, each once, and whose
  /// tensors share nothing.
  bool has_chunks = false;
  /// Rows of `storage` that hold more than a place (transforms of the bytes), ascending; only where
  /// it was read to be looked at.
  std::vector<std::size_t> transformed;
  /// Items of storage_data that are no row; only where it was read to be looked at.
  std::size_t unreadable_locations = 0;
  /// Every attribute, by name, in order.
  std::vector<std::pair<pickle::Value, pickle::Value>> attributes;
};

/// What the columns are for.
enum class Purpose : std::uint8_t {
  kObjects,  // the objects of the file: columns of what they say exactly
  kInspect,  // to be looked at: what objects share, or have besides, is left out
};

/// The columns of a pickle whose root is a Metadata; nothing for another root. Takes the pickle's
/// texts along as the names of `storage`. Throws BadPickle where the file refers so often to the
/// same parts that the columns would hold more than 8 values for each of its bytes, and 2^20.
std::optional<PickledMetadata> read_pickled_metadata(
    const pickle::Pickle& pickle, const std::shared_ptr<const util::TextTable>& texts,
    Purpose purpose = Purpose::kObjects);

/// The attributes of an object whose state is a dict, in order; nothing for another value.
std::optional<std::vector<std::pair<pickle::Value, pickle::Value>>> attributes_of(
    const pickle::Values& values, pickle::Value object);

}  // namespace shardplan::metadata
