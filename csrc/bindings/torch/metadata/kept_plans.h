#pragma once

#include <memory>
#include <vector>

#include "bindings/torch/columns/save_plan.h"
#include "bindings/torch/metadata/pickle_objects.h"
#include "core/pickle/machine.h"

namespace shardplan::bindings {

/// A list of SavePlans that a caller keeps in a Metadata. Their items are columns.
struct KeptPlans {
  std::vector<py::object> plans;
  std::vector<std::shared_ptr<SavePlanColumns>> items;  // per plan
};

/// Reads a list of SavePlans. Returns null if an element is not a plain SavePlan or is there twice,
/// or if its items are not a lazy list, were materialized, or cannot be represented by columns.
/// Throws UnreadablePlan if a received plan is broken.
std::shared_ptr<KeptPlans> read_kept_plans(const py::list& plans);

/// Registers lazy lists for the items of every plan in a pickle. `fill(SavePlanColumns)` creates
/// them. Lists that columns cannot represent are left to `objects`.
void make_lazy_items(const pickle::Pickle& pickle, const util::TextTable& texts,
                     PickleObjects& objects, const py::object& fill);

}  // namespace shardplan::bindings
