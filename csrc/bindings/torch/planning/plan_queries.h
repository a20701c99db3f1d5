#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {

/// Returns the boxes of a list of chunks, which is not materialized if it is lazy. Returns nothing
/// if a box does not have `ndim` dims, or does not fit int64.
std::optional<boxes::Boxes> boxes_of(const py::object& chunks, std::size_t ndim);

/// Returns name -> the rank that writes each chunk, in the order of the metadata. Returns nothing
/// if a plan was materialized.
///
/// plans: the items of each plan of a global plan
std::optional<py::dict> writers_of(const py::list& plans, const py::list& names);

/// Returns name -> the ranks that have an item of it, ascending. Returns nothing if an item cannot
/// be read.
///
/// plans: the items of each rank's plan
std::optional<py::dict> holders_of(const py::list& plans, const py::list& names);

/// Amount of data in a plan.
struct PlanLoad {
  std::size_t items = 0;
  std::int64_t bytes = 0;  // of tensors with a known element size; byte entries count 0
};

/// Returns the load of each save plan, or nothing if an item cannot be read.
std::optional<std::vector<PlanLoad>> written(const py::list& plans);

/// Returns the load of each load plan.
///
/// element_sizes: name -> bytes per element
std::vector<PlanLoad> requested(const py::list& plans, const py::dict& element_sizes);

}  // namespace shardplan::bindings
