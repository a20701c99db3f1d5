#pragma once

#include <pybind11/pybind11.h>

#include "core/arrangement.h"

namespace shardplan {

void register_kernels(pybind11::module_& m);
void register_diagnosis(pybind11::module_& m);

/// As Python has it: none, whole, 1-D, grid, irregular.
const char* arrangement_name(Arrangement::Kind kind);

}  // namespace shardplan
