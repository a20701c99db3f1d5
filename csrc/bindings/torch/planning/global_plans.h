#pragma once

#include <optional>

#include "bindings/torch/columns/save_plan.h"

namespace shardplan::bindings {

/// The columns of each plan's items without what another plan writes
/// (`_dedup_save_plans.dedup_save_plans`). plans: a list of their `items`. Nothing where upstream
/// has to answer.
std::optional<py::list> dedup_plans(const py::list& plans, bool save_to_lowest_rank);

/// The columns of each plan's items with their chunk indices, and the `state_dict_metadata`
/// (`default_planner.create_default_global_save_plan`).
///
/// fill(columns): a list that fills itself from them, for the chunks of a tensor
/// Nothing where upstream has to answer.
std::optional<py::tuple> plan_globally(const py::list& plans, const py::object& fill);

/// Puts exact lists of upstream chunks in the place of the lists that `plan_globally` had made, in
/// a `state_dict_metadata`.
void fill_chunks(const py::dict& state_dict_metadata);

/// Whether two plans' items are the same in what `planner_helpers._compare_save_plans` looks at
/// and, where `every_property`, in all else. Nothing where upstream has to answer.
std::optional<bool> same_items(const py::object& items, const py::object& other,
                               bool every_property);

}  // namespace shardplan::bindings
