#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/torch/columns/chunk_columns.h"
#include "bindings/torch/planning/global_plans.h"
#include "bindings/torch/register.h"
#include "bindings/torch/state_dict/flattening.h"
#include "bindings/torch/state_dict/load_columns.h"
#include "bindings/torch/state_dict/save_columns.h"
#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

void register_plans(py::module_& m) {
  UpstreamTypes::get();

  py::class_<SavePlanColumns, std::shared_ptr<SavePlanColumns>>(
      m, "SaveColumns", "The save plan of a rank, as columns.")
      .def("__len__", &SavePlanColumns::size)
      .def("items", &SavePlanColumns::items, "Materializes the rows.");

  py::class_<LoadPlanColumns>(m, "LoadColumns", "The load plan of a rank, as columns.")
      .def("__len__", [](const LoadPlanColumns& columns) { return columns.rows.size(); })
      .def("items", &LoadPlanColumns::items, "Materializes the rows.");

  py::class_<ChunkColumns, std::shared_ptr<ChunkColumns>>(m, "ChunkColumns",
                                                          "The chunks of one tensor, as columns.")
      .def("__len__", &ChunkColumns::size)
      .def("items", &ChunkColumns::items, "Materializes the rows.");

  m.def("flatten_state_dict", &flatten_state_dict, py::arg("state_dict"),
        "Returns the values of nested mappings and lists by name, and the path of each name.");

  m.def("copy_state_dict", &copy_state_dict, py::arg("state_dict"),
        "Copies nested mappings and lists; None if only upstream can flatten a ShardedTensor.");

  m.def(
      "save_columns",
      [](const py::object& state_dict, const py::object& upstream_items) {
        return read_state_dict(state_dict, upstream_items);
      },
      py::arg("state_dict"), py::arg("upstream_items"),
      "Plans a save. ``upstream_items`` creates the items of unreadable entries.");

  m.def("write_items", &write_items, py::arg("fqn"), py::arg("object"),
        "Returns the write items of one entry; None if native code cannot read it.");

  m.def(
      "load_columns",
      [](const py::object& state_dict, const py::dict& state_dict_metadata, bool strict,
         const py::object& upstream_items) {
        return read_state_dict(state_dict, state_dict_metadata, strict, upstream_items);
      },
      py::arg("state_dict"), py::arg("state_dict_metadata"), py::arg("strict"),
      py::arg("upstream_items"),
      "Plans a load. ``upstream_items`` creates the items of unreadable entries.");

  m.def("read_columns", &read_chunk_lists, py::arg("fqn"), py::arg("chunks"),
        py::arg("local_chunks"),
        "Plans the reads of one tensor; returns None if native code cannot read the chunks.");

  m.def("dedup", &dedup_plans, py::arg("plans"), py::arg("keeper"),
        "Returns the columns of each plan without duplicate items; None if an item is not "
        "readable.");

  m.def("plan_globally", &plan_globally, py::arg("plans"), py::arg("fill"),
        "Returns the global plan and state_dict_metadata, with ``fill(columns)`` as chunk lists; "
        "None if upstream has to answer.");

  m.def("end_collector_pauses", &CollectorPause::end_all,
        "Re-enables the collector in a forked child whose pausing thread does not exist.");

  m.def("fill_chunks", &fill_chunks, py::arg("state_dict_metadata"),
        "Replaces lazy chunk lists by plain, materialized lists.");

  m.def("same_items", &same_items, py::arg("items"), py::arg("other"), py::arg("every_property"),
        "Returns whether two lists of items are equal; None if an item cannot be read.");
}

}  // namespace shardplan::bindings
