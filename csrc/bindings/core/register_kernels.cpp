#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/core/register.h"
#include "core/boxes/box.h"
#include "core/boxes/layout.h"
#include "core/boxes/validate.h"
#include "core/planning/read_plan.h"

namespace py = pybind11;

namespace shardplan::bindings {
namespace {

using Numbers = std::vector<std::int64_t>;

boxes::Boxes boxes_from(std::size_t ndim, const py::buffer& offsets, const py::buffer& sizes) {
  const py::buffer_info offset_info = offsets.request();
  const py::buffer_info size_info = sizes.request();
  for (const py::buffer_info* info : {&offset_info, &size_info}) {
    if (!info->item_type_is_equivalent_to<std::int64_t>() || info->ndim != 1 ||
        (info->size > 1 && info->strides[0] != sizeof(std::int64_t))) {
      throw py::value_error("offsets and sizes must be contiguous one-dimensional int64 buffers");
    }
  }
  if (offset_info.size != size_info.size) {
    throw py::value_error(
        "offsets and sizes differ in length: " + std::to_string(offset_info.size) + " and " +
        std::to_string(size_info.size));
  }
  const auto numbers = static_cast<std::size_t>(offset_info.size);
  if (ndim == 0 || numbers % ndim != 0) {
    throw py::value_error("cannot split " + std::to_string(numbers) + " offsets into boxes of " +
                          std::to_string(ndim) + " dims");
  }
  boxes::Boxes boxes(ndim);
  boxes.reserve(numbers / ndim);
  const auto* offset = static_cast<const std::int64_t*>(offset_info.ptr);
  const auto* size = static_cast<const std::int64_t*>(size_info.ptr);
  for (std::size_t at = 0; at < numbers; at += ndim) {
    if (!boxes.push(offset + at, size + at)) {
      throw py::value_error("box " + std::to_string(at / ndim) + " ends beyond int64");
    }
  }
  return boxes;
}

const char* fault_name(boxes::Fault fault) {
  switch (fault) {
    case boxes::Fault::kNone: return "none";
    case boxes::Fault::kOutOfBounds: return "out_of_bounds";
    case boxes::Fault::kOverlap: return "overlap";
    case boxes::Fault::kFill: return "fill";
    case boxes::Fault::kTooLarge: return "too_large";
  }
  return "unknown";
}

}  // namespace

boxes::Placement placement_from(const PlacementTuple& tuple) {
  const auto& [kind, dim, split_factor] = tuple;
  if (kind == "replicate") return {boxes::Placement::Kind::kReplicate, 0, 1};
  if (kind == "shard") return {boxes::Placement::Kind::kShard, dim, 1};
  if (kind == "strided_shard") return {boxes::Placement::Kind::kStridedShard, dim, split_factor};
  throw py::value_error("placement kind must be replicate, shard or strided_shard, not " + kind);
}

std::vector<std::vector<boxes::Placement>> layouts_from(
    const std::vector<std::vector<PlacementTuple>>& layouts) {
  std::vector<std::vector<boxes::Placement>> parsed;
  for (const std::vector<PlacementTuple>& layout : layouts) {
    parsed.emplace_back();
    for (const PlacementTuple& tuple : layout) parsed.back().push_back(placement_from(tuple));
  }
  return parsed;
}

void register_kernels(py::module_& m) {
  py::class_<boxes::Boxes>(m, "Boxes", "Boxes of one tensor, stored as int64 columns.")
      .def(py::init(&boxes_from), py::arg("ndim"), py::arg("offsets"), py::arg("sizes"),
           "Takes int64 buffers with ``ndim`` offsets and ``ndim`` sizes per box, box after box.")
      .def("__len__", &boxes::Boxes::size)
      .def_property_readonly("ndim", &boxes::Boxes::ndim);

  m.def(
      "local_box",
      [](const Numbers& shape, const Numbers& mesh_shape, const Numbers& coordinate,
         const std::vector<PlacementTuple>& placements)
          -> std::optional<std::pair<Numbers, Numbers>> {
        std::vector<boxes::Placement> parsed;
        for (const PlacementTuple& tuple : placements) parsed.push_back(placement_from(tuple));
        Numbers offsets(shape.size());
        Numbers sizes(shape.size());
        if (!boxes::local_box(shape, mesh_shape, coordinate, parsed, offsets.data(),
                              sizes.data())) {
          return std::nullopt;
        }
        return std::make_pair(sizes, offsets);
      },
      py::arg("shape"), py::arg("mesh_shape"), py::arg("coordinate"), py::arg("placements"),
      "Returns (sizes, offsets) of a rank's local box; None if there is no closed form for it.");

  m.def(
      "overlap_pairs",
      [](const boxes::Boxes& saved, const boxes::Boxes& wanted) {
        if (saved.ndim() != wanted.ndim()) {
          throw py::value_error("saved boxes have " + std::to_string(saved.ndim()) +
                                " dims, wanted boxes have " + std::to_string(wanted.ndim()));
        }
        columns::ReadColumns rows;
        bool fits = false;
        {
          py::gil_scoped_release release;
          fits = planning::append_reads(0, saved, wanted, rows);
        }
        if (!fits) throw py::value_error("an overlap does not fit int64");
        return std::make_pair(rows.wanted, rows.saved);
      },
      py::arg("saved"), py::arg("wanted"),
      "Returns the indices of overlapping pairs, (wanted, saved), in upstream's order.");

  m.def(
      "check_boxes",
      [](const boxes::Boxes& boxes, const Numbers& shape, bool must_fill) {
        if (shape.size() != boxes.ndim()) {
          throw py::value_error("the tensor has " + std::to_string(shape.size()) +
                                " dims, its boxes have " + std::to_string(boxes.ndim()));
        }
        py::gil_scoped_release release;
        return fault_name(boxes::check_boxes(boxes, shape, must_fill));
      },
      py::arg("boxes"), py::arg("shape"), py::arg("must_fill"),
      "Returns the first fault: \"none\", \"out_of_bounds\", \"overlap\", \"fill\" or "
      "\"too_large\".");
}

}  // namespace shardplan::bindings
