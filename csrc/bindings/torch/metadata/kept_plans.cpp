#include "bindings/torch/metadata/kept_plans.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "bindings/torch/planning/global_objects.h"
#include "bindings/torch/upstream/object_reader.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "bindings/torch/wire/save_wire.h"
#include "core/metadata/plan_reader.h"

namespace shardplan::bindings {
namespace {

/// Returns the columns of a lazy list whose items nobody has seen, or null.
std::shared_ptr<SavePlanColumns> unseen_columns(const py::object& items) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (!PyList_Check(items.ptr()) || PyList_CheckExact(items.ptr())) return nullptr;
  const py::object source = read_attribute(items.ptr(), types.columns);
  if (!source ||
      (!py::isinstance<SavePlanColumns>(source) && !py::isinstance<ReceivedSavePlan>(source))) {
    return nullptr;
  }
  auto columns = save_columns_of(items);
  const PlanRows& rows = *columns->rows;
  const bool is_seen = !rows.items.empty() || rows.shared || rows.opaque ||
                       (columns->global && columns->global->items[columns->rank]);
  if (is_seen ||
      std::ranges::count(columns->table->columns.specs.kind, columns::WriteKind::kObject) > 0) {
    return nullptr;
  }
  return columns;
}

bool has_readable_names(const PlanTable& table) {
  for (const py::object& name : table.names) {
    if (!utf8(name.ptr())) return false;
  }
  return true;
}

/// Returns the table of plans, or null if a TensorProperties cannot be read.
std::shared_ptr<const PlanTable> plan_table(const metadata::PickledTable& read,
                                            const std::vector<pickle::Value>& properties,
                                            PickleObjects& objects) {
  auto table = std::make_shared<PlanTable>();
  table->columns = read.columns;
  for (const std::uint32_t name : read.names) table->names.push_back(objects.text(name));
  for (const std::uint32_t row : read.properties) {
    PropertyValues values;
    if (!read_properties(objects.object(properties[row]).ptr(), values)) return nullptr;
    table->properties.push_back(std::move(values));
  }
  return table;
}

}  // namespace

std::shared_ptr<KeptPlans> read_kept_plans(const py::list& plans) {
  const UpstreamTypes& types = UpstreamTypes::get();
  if (!types.write_item.known || !types.tensor_write_data.known || !types.metadata_index.known ||
      !types.chunk.known || plans.empty()) {
    return nullptr;
  }
  auto kept = std::make_shared<KeptPlans>();
  std::unordered_set<PyObject*> seen;
  std::unordered_set<const PlanTable*> tables;
  for (const py::handle plan : plans) {
    if (Py_TYPE(plan.ptr()) != types.save_plan) return nullptr;
    const py::object items = read_attribute(plan.ptr(), types.items);
    if (!items || !seen.insert(plan.ptr()).second) return nullptr;
    auto columns = unseen_columns(items);
    if (!columns) return nullptr;
    if (tables.insert(columns->table.get()).second && !has_readable_names(*columns->table)) {
      return nullptr;
    }
    kept->plans.push_back(py::reinterpret_borrow<py::object>(plan));
    kept->items.push_back(std::move(columns));
  }
  return kept;
}

void make_lazy_items(const pickle::Pickle& pickle, const util::TextTable& texts,
                     PickleObjects& objects, const py::object& fill) {
  metadata::PickledPlans plans = metadata::read_pickled_plans(pickle, texts);
  const metadata::PickledTable* last = nullptr;
  std::shared_ptr<const PlanTable> table;
  for (metadata::PickledItems& items : plans.items) {
    if (items.table.get() != last) {
      last = items.table.get();
      table = plan_table(*last, plans.properties, objects);
    }
    if (!table) continue;
    auto columns = std::make_shared<SavePlanColumns>();
    columns->table = table;
    columns->rows = std::make_shared<PlanRows>();
    columns->rows->columns = std::move(items.rows);
    if (!items.chunk_indices.empty()) {
      columns->chunk_indices =
          std::make_shared<const std::vector<std::int64_t>>(std::move(items.chunk_indices));
    }
    objects.preset(items.list, fill(std::move(columns)));
  }
}

}  // namespace shardplan::bindings
