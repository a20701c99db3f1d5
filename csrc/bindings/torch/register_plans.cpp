#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/planning/global_plans.h"
#include "bindings/torch/register.h"
#include "bindings/torch/state_dict/load_columns.h"
#include "bindings/torch/state_dict/save_columns.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

void register_plans(py::module_& m) {
  UpstreamTypes::get();

  py::class_<SavePlanColumns, std::shared_ptr<SavePlanColumns>>(m, "SaveColumns",
                                                                "A rank's save plan as columns.")
      .def("__len__", &SavePlanColumns::size)
      .def("items", &SavePlanColumns::items, "The rows as upstream WriteItems.");

  py::class_<LoadPlanColumns>(m, "LoadColumns", "A rank's load plan as columns.")
      .def("__len__", [](const LoadPlanColumns& columns) { return columns.rows.size(); })
      .def("items", &LoadPlanColumns::items, "The rows as upstream ReadItems, made anew.");

  py::class_<ChunkColumns, std::shared_ptr<ChunkColumns>>(m, "ChunkColumns",
                                                          "The chunks of one tensor as columns.")
      .def("__len__", &ChunkColumns::size)
      .def("items", &ChunkColumns::items, "The rows as upstream ChunkStorageMetadata.");

  m.def(
      "save_columns",
      [](const py::object& state_dict, const py::object& upstream_items) {
        return read_state_dict(state_dict, upstream_items);
      },
      py::arg("state_dict"), py::arg("upstream_items"),
      "The columns of a flat state dict; upstream_items(fqn, object) gives the items of what is "
      "not "
      "read here.");

  m.def("write_items", &write_items, py::arg("fqn"), py::arg("object"),
        "The upstream write items of one entry, or None where upstream has to answer.");

  m.def(
      "load_columns",
      [](const py::object& state_dict, const py::dict& state_dict_metadata, bool strict,
         const py::object& upstream_items) {
        return read_state_dict(state_dict, state_dict_metadata, strict, upstream_items);
      },
      py::arg("state_dict"), py::arg("state_dict_metadata"), py::arg("strict"),
      py::arg("upstream_items"),
      "The columns of a flat state dict against a checkpoint's metadata; upstream_items(fqn, "
      "object) "
      "gives the items, or raises the error, of what is not read here.");

  m.def("read_columns", &read_chunk_lists, py::arg("fqn"), py::arg("chunks"),
        py::arg("local_chunks"),
        "The columns of one tensor's reads, or None where upstream has to answer.");

  m.def("dedup", &dedup_plans, py::arg("plans"), py::arg("save_to_lowest_rank"),
        "The columns of each plan's items without what another plan writes, or None where upstream "
        "has to answer. plans: the items of each.");

  m.def("plan_globally", &plan_globally, py::arg("plans"), py::arg("fill"),
        "The columns of each plan's items with their index hints, and the state_dict_metadata, "
        "whose chunk lists are fill(columns); None where upstream has to answer.");

  m.def("end_collector_pauses", &CollectorPause::end_all,
        "For a forked child: lets the collector run again where another thread held it back.");

  m.def("fill_chunks", &fill_chunks, py::arg("state_dict_metadata"),
        "Puts exact lists of upstream chunks in the place of unfilled ones.");

  m.def("same_items", &same_items, py::arg("items"), py::arg("other"), py::arg("every_property"),
        "Whether two save plans' items are the same, or None where upstream has to answer.");
}

}  // namespace shardplan::bindings
