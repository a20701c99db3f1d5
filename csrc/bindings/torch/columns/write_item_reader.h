#pragma once

#include <memory>
#include <unordered_set>

#include "bindings/torch/columns/save_plan.h"

namespace shardplan::bindings {

/// Reads WriteItems, one by one, into the rows of a table.
///
/// An item of exactly the upstream classes, without extra attributes, becomes a row. Any other item
/// becomes a row that keeps the object, if its name, kind and box can be read; else a kObject row.
class WriteItemReader {
 public:
  void add(const py::object& item);

  /// Adds a row of a plan that has no item.
  void add_row(const SavePlanColumns& columns, std::size_t position);

  std::shared_ptr<SavePlanColumns> take();

 private:
  struct Reading;

  bool read_upstream(PyObject* item, Reading& out);
  bool read_object(PyObject* item, Reading& out);
  void push(const Reading& reading);
  std::uint32_t properties_row(const PropertyValues& values);
  void note_object(PyObject* object);

  std::unordered_set<PyObject*> seen_;  // mutable objects of the items
  PlanTable table_;
  PlanRows rows_;
  std::vector<std::int64_t> chunk_indices_;
};

/// Reads a list of WriteItems. The columns keep the items.
std::shared_ptr<SavePlanColumns> read_write_items(const py::object& list);

/// Returns the columns with `items`, in order, in place of the kObject rows. Throws BadWire if
/// their numbers differ.
std::shared_ptr<SavePlanColumns> with_items(const SavePlanColumns& columns, const py::list& items);

}  // namespace shardplan::bindings
