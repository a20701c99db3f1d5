#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "core/boxes/arrangement.h"
#include "core/boxes/layout.h"

namespace shardplan::bindings {

void register_kernels(pybind11::module_& m);
void register_diagnosis(pybind11::module_& m);
void register_checkpoint(pybind11::module_& m);
void register_simulation(pybind11::module_& m);
void register_part(pybind11::module_& m);

/// How a tensor lies along one dim of a mesh: kind (replicate, shard or strided_shard), dim, split
/// factor.
using PlacementTuple = std::tuple<std::string, std::int64_t, std::int64_t>;
/// Throws value_error for another kind.
boxes::Placement placement_from(const PlacementTuple& tuple);
std::vector<std::vector<boxes::Placement>> layouts_from(
    const std::vector<std::vector<PlacementTuple>>& layouts);

/// As Python has it: none, whole, 1-D, grid, irregular.
const char* arrangement_name(boxes::Arrangement::Kind kind);

}  // namespace shardplan::bindings
