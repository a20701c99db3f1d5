#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/columns/save_plan.h"
#include "core/planning/global_plan.h"

namespace shardplan::bindings {

/// Objects that the items of a global plan share with its metadata. As in upstream's code, each
/// chunk of the metadata is the chunk of an item, and the size and properties of an entry are those
/// of the first item with its name.
struct GlobalObjects {
  std::vector<SavePlanColumns> plans;
  planning::GlobalPlan plan;
  std::vector<std::uint32_t> entry_of_name;
  std::vector<std::shared_ptr<const std::vector<std::uint32_t>>> name_of_entry;  // per plan

  std::vector<py::object> items;   // per plan: its materialized list of items, or null
  std::vector<py::object> chunks;  // per entry: its materialized list of chunks, or null
  /// (rank, position) -> copy, with its chunk index, of an item that is kept as an object.
  std::map<std::pair<std::uint32_t, std::uint32_t>, py::object> replaced;

  std::uint32_t entry_index(planning::RowOfPlan row) const;

  /// Returns the position of a row in the rank's global plan, or nothing if another rank writes it.
  std::optional<std::uint32_t> position_of(std::uint32_t rank, std::size_t row) const;

  /// Returns the chunk of a row, shared with the metadata and the items. Creates a missing one.
  py::object chunk(planning::RowOfPlan row) const;

  /// Creates the TensorWriteData of a row, with the chunk of the metadata if it is materialized.
  py::object make_tensor_data(planning::RowOfPlan row) const;
};

/// The chunks of one tensor of a global plan.
class PlannedChunks : public ChunkColumns {
 public:
  PlannedChunks(std::shared_ptr<GlobalObjects> objects, std::uint32_t entry)
      : objects_(std::move(objects)), entry_(entry) {}

  std::size_t size() const override {
    const planning::SavedEntry& entry = objects_->plan.entries[entry_];
    return entry.end - entry.begin;
  }
  /// Materializes the chunks at the first call.
  py::list items() override;
  bool append_to(boxes::Boxes& boxes) const override;
  bool copy_to(std::size_t ndim, std::int64_t* numbers) const override;

 private:
  std::shared_ptr<GlobalObjects> objects_;
  std::uint32_t entry_;
};

}  // namespace shardplan::bindings
