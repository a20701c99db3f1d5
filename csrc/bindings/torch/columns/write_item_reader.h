#pragma once

#include <memory>
#include <unordered_set>

#include "bindings/torch/columns/save_plan.h"

namespace shardplan::bindings {

/// Reads WriteItems, one by one, into the rows of a table.
///
/// An item of exactly the upstream classes, with no attribute more, becomes a row that says all of
/// it. Any other whose name, kind and box can be read becomes a row that is marked foreign; of the
/// rest the columns know nothing.
class WriteItemReader {
 public:
  void add(const py::object& item);

  /// Adds a row of a plan for which no item exists.
  void add_row(const SavePlanColumns& columns, std::size_t position);

  std::shared_ptr<SavePlanColumns> take();

 private:
  struct Reading;

  bool read_upstream(PyObject* item, Reading& out);
  bool read_object(PyObject* item, Reading& out);
  void push(const Reading& reading);
  void add_chunk_index(std::int64_t chunk_index);
  std::uint32_t properties_row(const PropertyValues& values);
  void meet(PyObject* object);

  std::unordered_set<PyObject*> met_;  // objects that can be changed
  PlanTable table_;
  PlanRows rows_;
  std::vector<std::int64_t> chunk_indices_;
};

/// The columns of a list of items, which they keep.
std::shared_ptr<SavePlanColumns> read_write_items(const py::object& list);

/// The columns with these items, in their order, in the place of the kObject rows. Throws BadWire
/// where there are not as many.
std::shared_ptr<SavePlanColumns> with_items(const SavePlanColumns& columns, const py::list& items);

}  // namespace shardplan::bindings
