#pragma once

#include <optional>

#include "bindings/torch/upstream/item_maker.h"
#include "core/columns/plan.h"

namespace shardplan::bindings {

/// A rank's load plan as columns, with the objects that its rows point into.
struct LoadPlanColumns {
  columns::ReadColumns rows;
  ReadTables tables;

  py::list items() const { return make_read_items(rows, tables); }
};

/// Reads a flat state dict against a checkpoint's metadata
/// (`default_planner.create_default_local_load_plan`).
///
/// state_dict_metadata: a dict of fqn -> TensorStorageMetadata or BytesStorageMetadata
/// strict: whether a key that the checkpoint lacks is upstream's to refuse, else skipped
/// upstream_items(fqn, object): upstream's read items, or its error, for what is not read here
LoadPlanColumns read_state_dict(const py::object& state_dict, const py::dict& state_dict_metadata,
                                bool strict, const py::object& upstream_items);

/// The reads of one tensor (`planner_helpers.create_read_items_for_chunk_list`): `chunks` are the
/// saved ones, `local_chunks` the wanted ones. Nothing where either is not read here.
std::optional<LoadPlanColumns> read_chunk_lists(const py::object& fqn, const py::object& chunks,
                                                const py::object& local_chunks);

}  // namespace shardplan::bindings
