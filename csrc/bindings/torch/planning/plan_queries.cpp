#include "bindings/torch/planning/plan_queries.h"

#include <map>
#include <unordered_set>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/columns/read_item_reader.h"
#include "bindings/torch/planning/global_objects.h"
#include "bindings/torch/wire/load_wire.h"
#include "core/util/checked.h"

namespace shardplan::bindings {
namespace {

/// Adds the bytes of a box with these sizes. Does nothing if the sum does not fit int64.
void add_bytes(PlanLoad& load, const std::int64_t* sizes, std::size_t ndim,
               std::int64_t element_size) {
  std::int64_t elements = 0;
  std::int64_t bytes = 0;
  std::int64_t sum = 0;
  if (!boxes::volume({sizes, ndim}, elements) || !util::checked_mul(elements, element_size, bytes))
    return;
  if (bytes >= 0 && util::checked_add(load.bytes, bytes, sum)) load.bytes = sum;
}

PlanLoad load_of(const LoadPlanColumns& columns, const py::dict& element_sizes) {
  const columns::ReadColumns& rows = columns.rows;
  PlanLoad load{rows.size(), 0};
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (rows.kind[row] != columns::ReadKind::kTensor) continue;
    const py::object& name = columns.tables.names[rows.name[row]];
    PyObject* known = PyDict_GetItemWithError(element_sizes.ptr(), name.ptr());
    std::int64_t size = 0;
    if (known == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (known == nullptr || !read_int(known, size)) continue;
    const std::size_t ndim = rows.ndim[row];
    add_bytes(load, rows.numbers.data() + rows.first[row] + 4 * ndim, ndim, size);
  }
  return load;
}

}  // namespace

std::optional<boxes::Boxes> boxes_of(const py::object& chunks, std::size_t ndim) {
  boxes::Boxes boxes(ndim);
  if (!append_chunks(chunks.ptr(), boxes)) return std::nullopt;
  return boxes;
}

std::optional<py::dict> writers_of(const py::list& plans, const py::list& names) {
  if (plans.empty()) return std::nullopt;
  const auto columns = save_columns_of(plans[0]);
  if (!columns || !columns->global || columns->global->plans.size() != plans.size()) {
    return std::nullopt;
  }
  const GlobalObjects& objects = *columns->global;
  py::dict entries;
  for (std::size_t at = 0; at < objects.plan.entries.size(); ++at) {
    const planning::RowOfPlan first = objects.plan.entries[at].first;
    entries[objects.plans[first.plan].name(first.position)] = at;
  }
  py::dict writers;
  for (const py::handle name : names) {
    if (!entries.contains(name)) return std::nullopt;
    const planning::SavedEntry& entry = objects.plan.entries[entries[name].cast<std::size_t>()];
    py::list of_name;
    for (std::size_t at = entry.begin; at < entry.end; ++at) {
      of_name.append(objects.plan.chunks[at].plan);
    }
    writers[name] = of_name;
  }
  return writers;
}

std::optional<py::dict> holders_of(const py::list& plans, const py::list& names) {
  py::dict holders;
  for (const py::handle name : names) holders[name] = py::list();
  // Per entry of a table: the list of its name in `holders`, or null.
  std::map<std::shared_ptr<const PlanTable>, std::vector<PyObject*>> of_table;
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    const auto columns = save_columns_of(plans[rank]);
    if (!columns || columns->rows->opaque) return std::nullopt;
    std::vector<PyObject*>& lists = of_table[columns->table];
    if (lists.empty()) {
      for (const std::uint32_t name : columns->table->columns.name) {
        lists.push_back(PyDict_GetItemWithError(holders.ptr(), columns->table->names[name].ptr()));
        if (PyErr_Occurred() != nullptr) throw py::error_already_set();
      }
    }
    std::unordered_set<PyObject*> seen;
    const columns::SavePlanView view = columns->view();
    for (std::size_t at = 0; at < view.size(); ++at) {
      PyObject* list = lists[view.entry(at)];
      if (list != nullptr && seen.insert(list).second) {
        py::reinterpret_borrow<py::list>(list).append(rank);
      }
    }
  }
  return holders;
}

std::optional<std::vector<PlanLoad>> written(const py::list& plans) {
  std::vector<PlanLoad> loads;
  for (const py::handle items : plans) {
    const auto columns = save_columns_of(py::reinterpret_borrow<py::object>(items));
    if (!columns || columns->rows->opaque) return std::nullopt;
    const columns::SavePlanView view = columns->view();
    const std::vector<std::int64_t>& sizes = columns->table->element_sizes();
    PlanLoad load{view.size(), 0};
    for (std::size_t at = 0; at < view.size(); ++at) {
      if (!columns::writes_tensor(view.kind(at))) continue;
      const std::int64_t size = sizes[columns->table->columns.specs.properties[view.spec(at)]];
      if (size > 0) add_bytes(load, view.numbers(at) + view.ndim(at), view.ndim(at), size);
    }
    loads.push_back(load);
  }
  return loads;
}

std::vector<PlanLoad> requested(const py::list& plans, const py::dict& element_sizes) {
  std::vector<PlanLoad> loads;
  for (const py::handle items : plans) {
    loads.push_back(
        load_of(load_columns_of(py::reinterpret_borrow<py::object>(items)), element_sizes));
  }
  return loads;
}

}  // namespace shardplan::bindings
