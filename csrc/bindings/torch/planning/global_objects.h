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

/// What the items of a global plan and its metadata share: as upstream, a chunk of the metadata is
/// the chunk of an item, and size and properties are those of the first item of their name.
struct GlobalObjects {
  std::vector<SavePlanColumns> plans;
  planning::GlobalPlan plan;
  std::vector<std::uint32_t> entry_of_name;
  std::vector<std::shared_ptr<const std::vector<std::uint32_t>>> name_of_entry;  // a plan

  std::vector<py::object> items;   // a plan: the list of its items, once made
  std::vector<py::object> chunks;  // an entry: the list of its chunks, once made
  /// The items that stand for foreign ones, with their chunk indices.
  std::map<std::pair<std::uint32_t, std::uint32_t>, py::object> replaced;

  std::uint32_t entry_index(planning::RowOfPlan row) const;

  /// Where a row of a rank's plan is in its global plan; nothing where another rank writes it.
  std::optional<std::uint32_t> position_of(std::uint32_t rank, std::size_t row) const;

  /// The chunk of a row of a plan; made, where neither metadata nor an item has it.
  py::object chunk(planning::RowOfPlan row) const;

  /// What an item says of its tensor, with the chunk that the metadata has, if it has one.
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
  /// Made at the first call.
  py::list items() override;
  bool append_to(boxes::Boxes& boxes) const override;
  bool copy_to(std::size_t ndim, std::int64_t* numbers) const override;

 private:
  std::shared_ptr<GlobalObjects> objects_;
  std::uint32_t entry_;
};

}  // namespace shardplan::bindings
