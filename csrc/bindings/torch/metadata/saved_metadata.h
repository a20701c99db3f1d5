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

  /// The dict, in upstream classes; `fill(ChunkColumns)` gives its chunk lists.
  static py::dict entries(const std::shared_ptr<const SavedMetadata>& saved,
                          const py::object& fill);
};

/// Reads a dict of upstream classes; an entry of anything else is kObject. Nothing where a key is
/// no text, or entries share what can be changed: then upstream pickles keep it shared.
std::optional<SavedMetadata> read_saved_metadata(const py::dict& entries);

}  // namespace shardplan::bindings
