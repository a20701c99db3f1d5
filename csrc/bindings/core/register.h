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

/// Placement on one mesh dim: (kind, dim, split factor). The kind is replicate, shard or
/// strided_shard.
using PlacementTuple = std::tuple<std::string, std::int64_t, std::int64_t>;
/// Throws value_error if the kind is unknown.
boxes::Placement placement_from(const PlacementTuple& tuple);
std::vector<std::vector<boxes::Placement>> layouts_from(
    const std::vector<std::vector<PlacementTuple>>& layouts);

/// Returns the name in Python: none, whole, 1-D, grid or irregular.
const char* arrangement_name(boxes::Arrangement::Kind kind);

}  // namespace shardplan::bindings
