#pragma once

#include <optional>

#include "bindings/torch/upstream/item_maker.h"
#include "core/columns/plan.h"

namespace shardplan::bindings {

/// The load plan of a rank as columns, with the objects that its rows point into.
struct LoadPlanColumns {
  columns::ReadColumns rows;
  ReadTables tables;

  py::list items() const { return make_read_items(rows, tables); }
};

/// Plans the load of a flat state dict (`default_planner.create_default_local_load_plan`).
///
/// An object that has `__create_chunk_list__` lists its chunks itself.
///
/// state_dict_metadata: a dict of fqn -> TensorStorageMetadata or BytesStorageMetadata
/// strict: whether keys that the checkpoint lacks are passed to `upstream_items`, or skipped
/// upstream_items(fqn, object, [chunks]): creates the items of unreadable entries, or raises
///   upstream's error; `chunks` is what the object has listed, if it was asked
LoadPlanColumns read_state_dict(const py::object& state_dict, const py::dict& state_dict_metadata,
                                bool strict, const py::object& upstream_items);

/// Plans the reads of one tensor (`planner_helpers.create_read_items_for_chunk_list`). Returns
/// nothing if upstream has to answer.
///
/// chunks:       the saved chunks
/// local_chunks: the wanted chunks
std::optional<LoadPlanColumns> read_chunk_lists(const py::object& fqn, const py::object& chunks,
                                                const py::object& local_chunks);

}  // namespace shardplan::bindings
