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
        "The boxes of a list of upstream chunks, or None where they cannot be read.");
  m.def("writers_of", &writers_of, py::arg("plans"), py::arg("names"),
        "A name -> the plan that writes each of its chunks, in the order of the metadata; None "
        "where the plans are not an untouched global plan. plans: the items of each.");
  m.def("holders_of", &holders_of, py::arg("plans"), py::arg("names"),
        "A name -> the plans that have an item of it; None where one cannot be read. plans: the "
        "items of each plan of a rank.");
  m.def(
      "written",
      [](const py::list& plans) -> std::optional<py::list> {
        const auto loads = written(plans);
        if (!loads) return std::nullopt;
        return pairs_of(*loads);
      },
      py::arg("plans"),
      "Items and tensor bytes that each save plan writes, or None where one cannot be read.");
  m.def(
      "requested",
      [](const py::list& plans, const py::dict& element_sizes) {
        return pairs_of(requested(plans, element_sizes));
      },
      py::arg("plans"), py::arg("element_sizes"),
      "Items and tensor bytes that each load plan reads. element_sizes: a name -> bytes.");
}

}  // namespace shardplan::bindings
