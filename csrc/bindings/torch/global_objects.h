#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/torch/save_plan.h"
#include "core/box.h"
#include "core/global.h"

namespace shardplan {

/// What the items of a global plan and its metadata share: as upstream, a chunk of the metadata is
/// the chunk of an item, and size and properties are those of the first item of their name.
struct GlobalObjects {
  std::vector<SavePlanColumns> plans;
  GlobalPlan plan;
  std::vector<std::uint32_t> entry_of_name;
  std::vector<std::shared_ptr<const std::vector<std::uint32_t>>> name_of_entry;  // a plan

  std::vector<py::object> items;   // a plan: the list of its items, once made
  std::vector<py::object> chunks;  // an entry: the list of its chunks, once made
  /// The items that stand for foreign ones, with their index hints.
  std::map<std::pair<std::uint32_t, std::uint32_t>, py::object> replaced;

  std::uint32_t entry_index(RowOfPlan row) const;

  /// Where a row of a rank's plan is in its global plan; nothing where another rank writes it.
  std::optional<std::uint32_t> position_of(std::uint32_t rank, std::size_t row) const;

  /// The chunk of a row of a plan; made, where neither metadata nor an item has it.
  py::object chunk(RowOfPlan row) const;

  /// What an item says of its tensor, with the chunk that the metadata has, if it has one.
  py::object make_tensor_data(RowOfPlan row) const;
};

/// The chunks of one tensor of a global plan: what a chunk list of Metadata is filled from.
class ChunkColumns {
 public:
  ChunkColumns(std::shared_ptr<GlobalObjects> objects, std::uint32_t entry)
      : objects_(std::move(objects)), entry_(entry) {}

  std::size_t size() const {
    const SavedEntry& entry = objects_->plan.entries[entry_];
    return entry.end - entry.begin;
  }

  /// The stock chunks, made at the first call.
  py::list items();

  /// Appends every chunk; false where one does not have as many dims, or does not fit int64.
  bool append_to(Boxes& boxes) const;

 private:
  std::shared_ptr<GlobalObjects> objects_;
  std::uint32_t entry_;
};

}  // namespace shardplan
