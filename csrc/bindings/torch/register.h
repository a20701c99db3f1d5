#pragma once

#include <pybind11/pybind11.h>

namespace shardplan::bindings {

void register_boxes(pybind11::module_& m);
void register_data(pybind11::module_& m);
void register_queries(pybind11::module_& m);
void register_plans(pybind11::module_& m);
void register_storage(pybind11::module_& m);
void register_wire(pybind11::module_& m);

}  // namespace shardplan::bindings
