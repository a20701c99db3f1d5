#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {

/// The boxes of a list of upstream chunks, or of one that is not filled. Nothing where one does not
/// have `ndim` dims, or does not fit int64.
std::optional<boxes::Boxes> boxes_of(const py::object& chunks, std::size_t ndim);

/// Who writes the chunks of these names: a name -> the plan of each, in the order of the metadata.
/// plans: the items of each plan of a global plan. Nothing where they are not untouched columns of
/// one.
std::optional<py::dict> writers_of(const py::list& plans, const py::list& names);

/// Who has a part of these names: a name -> those of the plans that have an item of it, ascending.
/// plans: the items of each plan of a rank. Nothing where a plan cannot be read.
std::optional<py::dict> holders_of(const py::list& plans, const py::list& names);

/// What a plan moves.
struct PlanLoad {
  std::size_t items = 0;
  std::int64_t bytes = 0;  // of tensors whose dtype has a size; objects count nothing
};

/// What each save plan writes. Nothing where a plan cannot be read.
std::optional<std::vector<PlanLoad>> written(const py::list& plans);

/// What each load plan reads. element_sizes: a name -> bytes an element of its tensor.
std::vector<PlanLoad> requested(const py::list& plans, const py::dict& element_sizes);

}  // namespace shardplan::bindings
