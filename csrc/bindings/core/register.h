#pragma once

#include <pybind11/pybind11.h>

namespace shardplan {

void register_kernels(pybind11::module_& m);

}  // namespace shardplan
