#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/torch/load_columns.h"
#include "bindings/torch/register.h"
#include "bindings/torch/save_columns.h"
#include "bindings/torch/stock_types.h"

namespace shardplan {

void register_plans(py::module_& m) {
  StockTypes::get();

  py::class_<SavePlanColumns>(m, "SaveColumns", "A rank's save plan as columns.")
      .def("__len__", [](const SavePlanColumns& columns) { return columns.rows.size(); })
      .def("items", &SavePlanColumns::items, "The rows as stock WriteItems, made anew.");

  py::class_<LoadPlanColumns>(m, "LoadColumns", "A rank's load plan as columns.")
      .def("__len__", [](const LoadPlanColumns& columns) { return columns.rows.size(); })
      .def("items", &LoadPlanColumns::items, "The rows as stock ReadItems, made anew.");

  m.def(
      "save_columns",
      [](const py::object& state_dict, const py::object& foreign) {
        return read_state_dict(state_dict, foreign);
      },
      py::arg("state_dict"), py::arg("foreign"),
      "The columns of a flat state dict; foreign(fqn, object) gives the items of what is not "
      "read here.");

  m.def("write_items", &write_items, py::arg("fqn"), py::arg("object"),
        "The stock write items of one entry, or None where upstream has to answer.");

  m.def(
      "load_columns",
      [](const py::object& state_dict, const py::dict& state_dict_metadata, bool strict,
         const py::object& foreign) {
        return read_state_dict(state_dict, state_dict_metadata, strict, foreign);
      },
      py::arg("state_dict"), py::arg("state_dict_metadata"), py::arg("strict"), py::arg("foreign"),
      "The columns of a flat state dict against a checkpoint's metadata; foreign(fqn, object) "
      "gives the items, or raises the error, of what is not read here.");

  m.def("read_columns", &read_chunk_lists, py::arg("fqn"), py::arg("chunks"),
        py::arg("local_chunks"),
        "The columns of one tensor's reads, or None where upstream has to answer.");
}

}  // namespace shardplan
