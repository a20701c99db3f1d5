#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/pickle_machine.h"
#include "core/saved_chunks.h"
#include "core/storage_rows.h"

namespace shardplan {

/// A `Metadata` that a pickle holds, its large parts as columns.
struct PickledMetadata {
  /// Names are texts of the pickle.
  SavedChunks chunks;
  std::vector<PickleValue> properties;  // a row of properties: a TensorProperties
  /// An entry of `chunks`: its key and value as they are in the pickle.
  std::vector<std::pair<PickleValue, PickleValue>> entries;
  /// storage_data; nothing where it is not a dict of MetadataIndex -> _StorageInfo, each once.
  std::optional<StorageRows> storage;
  /// Whether state_dict_metadata is in `chunks`: a dict whose keys are texts, each once, and whose
  /// tensors share nothing.
  bool has_chunks = false;
  /// Every attribute, by name, in order.
  std::vector<std::pair<PickleValue, PickleValue>> attributes;
};

/// The columns of a pickle whose root is a Metadata; nothing for another root. Takes the pickle's
/// texts along as the names of `storage`.
std::optional<PickledMetadata> read_pickled_metadata(const Pickle& pickle,
                                                     const std::shared_ptr<const TextTable>& texts);

}  // namespace shardplan
