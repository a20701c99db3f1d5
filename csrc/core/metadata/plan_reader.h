#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/columns/plan.h"
#include "core/pickle/machine.h"

namespace shardplan::metadata {

/// The entries of plans in a pickle.
struct PickledTable {
  columns::SaveTable columns;
  std::vector<std::uint32_t> names;  // per name of `columns`: its number among the pickle's texts
  std::vector<std::uint32_t> properties;  // per property row of `columns`: its row in PickledPlans
  bool operator==(const PickledTable&) const = default;
};

/// The items of one SavePlan in a pickle, as columns.
struct PickledItems {
  pickle::Value list;
  std::shared_ptr<const PickledTable> table;  // the plan before it has the same one if it is equal
  columns::SaveRows rows;
  /// Per row: its chunk index or kNoChunkIndex. Empty if no row has one.
  std::vector<std::int64_t> chunk_indices;
};

/// The plans in a pickle that columns represent.
struct PickledPlans {
  std::vector<PickledItems> items;
  std::vector<pickle::Value> properties;  // per property row: its TensorProperties
};

/// Reads the items of every SavePlan in the pickle of a Metadata; some callers keep plans there.
///
/// Lists that hold anything but plain WriteItems are left out. So are lists that share a chunk or a
/// TensorProperties with another item: columns cannot represent that a change to one item is a
/// change to the other. So the columns are linear in the bytes of the pickle: each chunk, of at
/// most columns::kMaxDims dims, is read once.
///
/// `texts` are the texts of the pickle.
PickledPlans read_pickled_plans(const pickle::Pickle& pickle, const util::TextTable& texts);

}  // namespace shardplan::metadata
