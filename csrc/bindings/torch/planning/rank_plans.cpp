#include "bindings/torch/planning/rank_plans.h"

#include <string>

#include "bindings/torch/columns/write_item_reader.h"
#include "bindings/torch/wire/unreadable_plan.h"

namespace shardplan::bindings {
namespace {

std::string prefix_of(std::size_t rank) {
  return "rank " + std::to_string(rank) + ": ";
}

}  // namespace

std::shared_ptr<const std::vector<std::uint32_t>> NameNumbers::of_entries(
    const std::shared_ptr<const PlanTable>& table) {
  auto& known_entries = by_table_[table];
  if (known_entries) return known_entries;
  std::vector<std::uint32_t> of_name;
  for (const py::object& name : table->names) {
    const py::object number = checked(PyLong_FromSize_t(numbers_.size()));
    PyObject* known = PyDict_SetDefault(numbers_.ptr(), name.ptr(), number.ptr());
    if (known == nullptr) throw py::error_already_set();
    of_name.push_back(static_cast<std::uint32_t>(PyLong_AsUnsignedLong(known)));
  }
  auto of_entry = std::make_shared<std::vector<std::uint32_t>>();
  of_entry->reserve(table->columns.size());
  for (const std::uint32_t name : table->columns.name) of_entry->push_back(of_name[name]);
  known_entries = std::move(of_entry);
  return known_entries;
}

bool RankPlans::read(const py::list& items_of_ranks) {
  for (std::size_t rank = 0; rank < items_of_ranks.size(); ++rank) {
    try {
      if (!add(items_of_ranks[rank])) return false;
    } catch (const py::error_already_set& error) {
      // A lazy list raises UnreadablePlan. A caller's list may raise anything else, which is passed
      // on.
      if (!error.matches(unreadable_plan_type())) throw;
      throw py::value_error(prefix_of(rank) + py::str(error.value()).cast<std::string>());
    } catch (const UnreadablePlan& error) {
      throw py::value_error(prefix_of(rank) + error.what());
    }
  }
  if (!names) names = std::make_shared<NameNumbers>();
  name_of_entry.reserve(plans.size());
  for (const SavePlanColumns& columns : plans) {
    name_of_entry.push_back(names->of_entries(columns.table));
  }
  return true;
}

bool RankPlans::add(const py::object& items) {
  auto columns = save_columns_of(items);
  if (!columns) return false;
  if (!names) names = columns->names;
  // Items of a global plan have other indices than the rows that they were made from.
  columns = columns->global ? read_write_items(columns->items()) : up_to_date(columns);
  if (columns->rows->opaque) return false;
  plans.push_back(*columns);
  return true;
}

std::vector<columns::RankPlan> RankPlans::ranks() const {
  std::vector<columns::RankPlan> all;
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    const PlanRows& rows = *plans[rank].rows;
    all.push_back({plans[rank].view(),
                   *name_of_entry[rank],
                   {},
                   rows.counted.empty() ? nullptr : &rows.counted});
  }
  return all;
}

}  // namespace shardplan::bindings
