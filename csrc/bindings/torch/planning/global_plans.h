#pragma once

#include <optional>
#include <string>

#include "bindings/torch/columns/save_plan.h"

namespace shardplan::bindings {

/// Returns the columns of each plan without duplicate items (`_dedup_save_plans.dedup_save_plans`),
/// or nothing if upstream has to answer.
///
/// plans:  the `items` of each plan
/// keeper: see `planning::keeper_named`
std::optional<py::list> dedup_plans(const py::list& plans, const std::string& keeper);

/// Returns the columns of each plan with chunk indices, and the `state_dict_metadata`
/// (`default_planner.create_default_global_save_plan`), or nothing if upstream has to answer.
///
/// plans:         the `items` of each plan
/// fill(columns): creates a lazy list of the chunks of a tensor
std::optional<py::tuple> plan_globally(const py::list& plans, const py::object& fill);

/// Replaces the lazy chunk lists in a `state_dict_metadata` by plain, materialized lists.
void fill_chunks(const py::dict& state_dict_metadata);

/// Returns whether two lists of items are equal in the fields that
/// `planner_helpers._compare_save_plans` compares and, if `every_property`, in all others. Returns
/// nothing if upstream has to answer.
std::optional<bool> same_items(const py::object& items, const py::object& other,
                               bool every_property);

}  // namespace shardplan::bindings
