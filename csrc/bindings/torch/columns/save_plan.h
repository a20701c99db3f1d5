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

/// The rows of one rank's plan, with the items that exist for them.
struct PlanRows {
  columns::SaveRows columns;

  /// A row: its WriteItem, where a caller gave it or one was made; empty where none is.
  std::vector<py::object> items;
  /// A row: whether its item says more than the columns (a subclass, attributes of its own), so
  /// that it travels as an object; empty where none does.
  std::vector<bool> objects;
  /// A row: bytes that its item counts for itself, or kBytesOfTensor; empty where none is foreign.
  std::vector<std::int64_t> counted;
  /// Whether some item's key or box could not be read: its row is kObject.
  bool opaque = false;
  /// Whether a caller made items that share an object which can be changed.
  bool shared = false;

  /// A row: the TensorWriteData that its items share; empty where none was made.
  std::vector<py::object> tensor_datas;
  /// The global plan that the rows are in, if any, as `rank`.
  std::weak_ptr<GlobalObjects> planned;
  std::uint32_t rank = 0;

  py::object item(std::size_t row) const { return items.empty() ? py::object() : items[row]; }
  bool is_object(std::size_t row) const { return !objects.empty() && objects[row]; }
  void keep(std::size_t row, const py::object& item);
  py::object tensor_data(std::size_t row) const;
  void keep_tensor_data(std::size_t row, const py::object& data);
};

/// A save plan as columns: what `plan.items` is filled from.
class SavePlanColumns {
 public:
  std::shared_ptr<const PlanTable> table;
  std::shared_ptr<PlanRows> rows;
  std::shared_ptr<const std::vector<std::uint32_t>> chosen;        // none: every row
  std::shared_ptr<const std::vector<std::int64_t>> chunk_indices;  // none: no row has one
  std::shared_ptr<NameNumbers> names;     // of all plans that were deduplicated with this one
  std::shared_ptr<GlobalObjects> global;  // of a global plan, with `rank`
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

  /// The rows as upstream WriteItems: those that exist, and new ones.
  py::list items();

  /// The WriteItem of one row.
  py::object item_at(std::size_t position);

  /// What the row's items say of its tensor: one object for all of them.
  py::object tensor_data(std::size_t position);

 private:
  py::object index(std::size_t position) const;
  py::object item(std::size_t position);
  py::object item_of_global_plan(std::size_t position);
};

/// A list's columns where nobody has touched it, else the columns of its items; nothing where
/// `items` is no list.
std::shared_ptr<SavePlanColumns> save_columns_of(const py::object& items);

/// Columns that say what their items say now: items that exist can have been changed by a caller.
std::shared_ptr<SavePlanColumns> up_to_date(const std::shared_ptr<SavePlanColumns>& columns);

}  // namespace shardplan::bindings
