#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/torch/register.h"
#include "bindings/torch/wire/load_wire.h"
#include "bindings/torch/wire/save_wire.h"
#include "bindings/torch/wire/unreadable_plan.h"

namespace shardplan::bindings {

namespace {

/// Registers `UnreadablePlan`. It is pickled as a plain ValueError, so that ranks without shardplan
/// can receive it.
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
  py::class_<ReceivedSavePlan>(m, "ReceivedSave",
                               "A received save plan. It is decoded at first access.")
      .def(py::init<py::bytes, py::object>(), py::arg("bytes"), py::arg("objects"))
      .def("__len__", &ReceivedSavePlan::size)
      .def("items", &ReceivedSavePlan::items,
           "Decodes and materializes the rows. Raises UnreadablePlan if the bytes are broken.")
      .def("mappings", &ReceivedSavePlan::mappings,
           "Decodes the path mappings. Plans may share the dict; do not modify it.");

  py::class_<ReceivedLoadPlan>(m, "ReceivedLoad",
                               "A received load plan. It is decoded at first access.")
      .def(py::init<py::bytes, py::object>(), py::arg("bytes"), py::arg("objects"))
      .def("__len__", &ReceivedLoadPlan::size)
      .def("items", &ReceivedLoadPlan::items,
           "Decodes and materializes the rows. Raises UnreadablePlan if the bytes are broken.");

  m.def(
      "pack_save",
      [](const py::object& items, const py::object& mappings,
         ReceivedSavePlan* mapped_by) -> std::optional<py::tuple> {
        auto packed = pack_save_plan(items, mappings, mapped_by);
        if (!packed) return std::nullopt;
        return py::make_tuple(packed->bytes, packed->objects, packed->mapped);
      },
      py::arg("items"), py::arg("mappings"), py::arg("mapped_by"),
      "Returns (bytes, items sent as objects, whether mappings are encoded); None on fallback.");

  m.def(
      "pack_load",
      [](const py::object& items) -> std::optional<py::tuple> {
        auto packed = pack_load_plan(items);
        if (!packed) return std::nullopt;
        return py::make_tuple(packed->bytes, packed->objects);
      },
      py::arg("items"), "Returns (bytes, items sent as objects); None on fallback.");
}

}  // namespace shardplan::bindings
