#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "bindings/torch/columns/plan_table.h"
#include "core/columns/plan.h"

namespace shardplan::bindings {

struct GlobalObjects;
class NameNumbers;

/// The rows of one rank's plan, with the items that were materialized for them.
struct PlanRows {
  columns::SaveRows columns;

  /// Per row: its WriteItem, given by a caller or materialized, or null. Empty if no row has one.
  std::vector<py::object> items;
  /// Per row: whether its item is sent as an object, because it has more than the columns (a
  /// subclass, extra attributes). Empty if no row is.
  std::vector<bool> objects;
  /// Per row: byte count that its item reports, or kBytesOfTensor. Empty if `objects` is.
  std::vector<std::int64_t> counted;
  /// Whether an item has a key or box that cannot be read. Its row is kObject.
  bool opaque = false;
  /// Whether items of a caller share a mutable object.
  bool shared = false;

  /// Per row: the TensorWriteData that its items share, or null. Empty if no row has one.
  std::vector<py::object> tensor_datas;
  /// The global plan that contains the rows, if any, and the rank of the rows in it.
  std::weak_ptr<GlobalObjects> planned;
  std::uint32_t rank = 0;

  py::object item(std::size_t row) const { return items.empty() ? py::object() : items[row]; }
  bool is_object(std::size_t row) const { return !objects.empty() && objects[row]; }
  void set_item(std::size_t row, const py::object& item);
  py::object tensor_data(std::size_t row) const;
  void set_tensor_data(std::size_t row, const py::object& data);
};

/// A save plan as columns. `plan.items` is materialized from them.
class SavePlanColumns {
 public:
  std::shared_ptr<const PlanTable> table;
  std::shared_ptr<PlanRows> rows;
  std::shared_ptr<const std::vector<std::uint32_t>> chosen;        // null for all rows
  std::shared_ptr<const std::vector<std::int64_t>> chunk_indices;  // null if no row has one
  std::shared_ptr<NameNumbers> names;     // set by dedup; shared by the plans of all ranks
  std::shared_ptr<GlobalObjects> global;  // set if this is part of a global plan, with `rank`
  std::uint32_t rank = 0;

  std::size_t size() const { return view().size(); }
  columns::SavePlanView view() const {
    return {&table->columns, &rows->columns, chosen.get(), chunk_indices.get()};
  }
  PyObject* name(std::size_t position) const {
    return table->names[table->columns.name[view().entry(position)]].ptr();
  }
  const PropertyValues& properties(std::size_t position) const {
    return table->properties[table->columns.specs.properties[view().spec(position)]];
  }

  /// Returns the WriteItems of all rows. Materializes the missing ones.
  py::list items();

  /// Returns the WriteItem of one row.
  py::object item_at(std::size_t position);

  /// Returns the TensorWriteData of a row. All items of the row share it.
  py::object tensor_data(std::size_t position);

 private:
  py::object index(std::size_t position) const;
  py::object item(std::size_t position);
  py::object item_of_global_plan(std::size_t position);
};

/// Returns the columns of a lazy list, or reads the items of any other list. Returns null if
/// `items` is not a list.
std::shared_ptr<SavePlanColumns> save_columns_of(const py::object& items);

/// Returns columns that match the current items. A caller may have changed materialized items.
std::shared_ptr<SavePlanColumns> up_to_date(const std::shared_ptr<SavePlanColumns>& columns);

}  // namespace shardplan::bindings
