#pragma once

#include <cstdint>
#include <memory>
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

  std::vector<py::object> sizes;       // an entry; none for bytes
  std::vector<py::object> properties;  // an entry; none for bytes
  std::vector<py::object> items;       // a plan: the list of its items, once made
  std::vector<py::object> chunks;      // an entry: the list of its chunks, once made

  const SavedEntry& entry_of(std::uint32_t rank, std::size_t position) const;
  std::uint32_t entry_index(std::uint32_t rank, std::size_t position) const;

  /// The chunk of a row of a plan; made, where neither metadata nor an item has it.
  py::object chunk(RowOfPlan row);

  /// What an item says of its tensor.
  py::object tensor_data(RowOfPlan row);
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
