#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/torch/planning/plan_queries.h"
#include "bindings/torch/register.h"

namespace shardplan::bindings {
namespace {

py::list pairs_of(const std::vector<PlanLoad>& loads) {
  py::list pairs;
  for (const PlanLoad& load : loads) pairs.append(py::make_tuple(load.items, load.bytes));
  return pairs;
}

}  // namespace

void register_queries(py::module_& m) {
  m.def("boxes_of", &boxes_of, py::arg("chunks"), py::arg("ndim"),
        "Returns the boxes of a list of chunks; None if native code cannot read them.");
  m.def("writers_of", &writers_of, py::arg("plans"), py::arg("names"),
        "Returns key -> the rank that writes each chunk; None if a plan was materialized.");
  m.def("holders_of", &holders_of, py::arg("plans"), py::arg("names"),
        "Returns key -> the ranks that have an item of it; None if an item cannot be read.");
  m.def(
      "written",
      [](const py::list& plans) -> std::optional<py::list> {
        const auto loads = written(plans);
        if (!loads) return std::nullopt;
        return pairs_of(*loads);
      },
      py::arg("plans"),
      "Returns (items, tensor bytes) that each plan writes; None if an item cannot be read.");
  m.def(
      "requested",
      [](const py::list& plans, const py::dict& element_sizes) {
        return pairs_of(requested(plans, element_sizes));
      },
      py::arg("plans"), py::arg("element_sizes"),
      "Returns (items, tensor bytes) that each plan reads. ``element_sizes``: key -> bytes.");
}

}  // namespace shardplan::bindings
