#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/upstream/item_maker.h"
#include "core/columns/saved_chunks.h"

namespace shardplan::bindings {

/// A `state_dict_metadata` as columns, with the objects that they point into.
struct SavedMetadata {
  columns::SavedChunks chunks;
  std::vector<py::object> names;
  std::vector<PropertyValues> properties;
  std::vector<py::object> objects;  // the values of kObject entries, in order

  /// Creates the dict, in upstream's classes. `fill(ChunkColumns)` creates its chunk lists.
  static py::dict entries(const std::shared_ptr<const SavedMetadata>& saved,
                          const py::object& fill);
};

/// Reads a `state_dict_metadata`. An entry that is not of an upstream class becomes kObject.
/// Returns nothing if a key is not a str, or if entries share a mutable object, which columns would
/// copy.
std::optional<SavedMetadata> read_saved_metadata(const py::dict& entries);

}  // namespace shardplan::bindings
