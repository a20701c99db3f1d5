#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/torch/register.h"
#include "bindings/torch/wire/load_wire.h"
#include "bindings/torch/wire/save_wire.h"
#include "bindings/torch/wire/unreadable_plan.h"

namespace shardplan::bindings {

namespace {

/// Makes `UnreadablePlan` of Python. What pickles it pickles a plain ValueError, so that it travels
/// to ranks that have no shardplan.
void register_unreadable_plan(py::module_& m) {
  const py::object type = unreadable_plan_type();
  type.attr("__reduce__") = py::cpp_function(
      [](const py::object& error) {
        return py::make_tuple(py::handle(PyExc_ValueError), error.attr("args"));
      },
      py::name("__reduce__"), py::is_method(type));
  m.attr("UnreadablePlan") = type;
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const UnreadablePlan& error) {
      PyErr_SetString(unreadable_plan_type().ptr(), error.what());
    }
  });
}

}  // namespace

void register_wire(py::module_& m) {
  register_unreadable_plan(m);
  py::class_<ReceivedSavePlan>(m, "ReceivedSave", "A save plan as it arrived from another rank.")
      .def(py::init<py::bytes, py::object>(), py::arg("bytes"), py::arg("objects"))
      .def("__len__", &ReceivedSavePlan::size)
      .def("items", &ReceivedSavePlan::items,
           "The rows as upstream WriteItems. UnreadablePlan where the bytes are broken.")
      .def("mappings", &ReceivedSavePlan::mappings,
           "The paths of the names, one dict for all plans of one table: not to be changed.");

  py::class_<ReceivedLoadPlan>(m, "ReceivedLoad", "A load plan as it arrived from another rank.")
      .def(py::init<py::bytes, py::object>(), py::arg("bytes"), py::arg("objects"))
      .def("__len__", &ReceivedLoadPlan::size)
      .def("items", &ReceivedLoadPlan::items,
           "The rows as upstream ReadItems. UnreadablePlan where the bytes are broken.");

  m.def(
      "pack_save",
      [](const py::object& items, const py::object& mappings,
         ReceivedSavePlan* mapped_by) -> std::optional<py::tuple> {
        auto packed = pack_save_plan(items, mappings, mapped_by);
        if (!packed) return std::nullopt;
        return py::make_tuple(packed->bytes, packed->objects, packed->mapped);
      },
      py::arg("items"), py::arg("mappings"), py::arg("mapped_by"),
      "A save plan's bytes, the items that travel as objects, and whether the mappings are in the "
      "bytes; None where it travels as an upstream one.");

  m.def(
      "pack_load",
      [](const py::object& items) -> std::optional<py::tuple> {
        auto packed = pack_load_plan(items);
        if (!packed) return std::nullopt;
        return py::make_tuple(packed->bytes, packed->objects);
      },
      py::arg("items"),
      "A load plan's bytes and the items that travel as objects; None where it travels as an "
      "upstream "
      "one.");
}

}  // namespace shardplan::bindings
