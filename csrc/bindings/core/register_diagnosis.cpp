#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/core/register.h"
#include "core/boxes/arrangement.h"
#include "core/boxes/box.h"
#include "core/boxes/holes.h"
#include "core/boxes/overlap_pairs.h"

namespace py = pybind11;

namespace shardplan::bindings {
namespace {

using Numbers = std::vector<std::int64_t>;
using OffsetsAndSizes = std::pair<Numbers, Numbers>;

OffsetsAndSizes box_of(const boxes::Boxes& boxes, std::size_t at) {
  if (at >= boxes.size()) {
    throw py::index_error("box index " + std::to_string(at) + " is not below " +
                          std::to_string(boxes.size()));
  }
  OffsetsAndSizes box{{boxes.starts(at), boxes.ends(at)}, {}};
  for (std::size_t dim = 0; dim < boxes.ndim(); ++dim) {
    box.second.push_back(boxes.end(at, dim) - boxes.start(at, dim));
  }
  return box;
}

void check_ndim(const boxes::Boxes& boxes, const Numbers& shape) {
  if (shape.size() != boxes.ndim()) {
    throw py::value_error("the tensor has " + std::to_string(shape.size()) +
                          " dims, its boxes have " + std::to_string(boxes.ndim()));
  }
}

std::optional<std::int64_t> elements_of(const boxes::Boxes& boxes) {
  std::int64_t sum = 0;
  if (!boxes::total_volume(boxes, sum)) return std::nullopt;
  return sum;
}

std::vector<std::size_t> out_of_bounds(const boxes::Boxes& boxes, const Numbers& shape) {
  check_ndim(boxes, shape);
  return boxes::out_of_bounds(boxes, shape);
}

std::vector<boxes::BoxPair> overlaps(const boxes::Boxes& boxes, const Numbers& shape,
                                     std::size_t most) {
  check_ndim(boxes, shape);
  if (shape.empty()) return {};
  const py::gil_scoped_release release;
  return boxes::overlapping_pairs(boxes, shape, most);
}

std::pair<std::vector<OffsetsAndSizes>, bool> holes(const boxes::Boxes& boxes,
                                                    const Numbers& offsets, const Numbers& sizes,
                                                    std::size_t most) {
  check_ndim(boxes, offsets);
  check_ndim(boxes, sizes);
  boxes::Boxes region(boxes.ndim());
  if (!region.push(offsets.data(), sizes.data())) {
    throw py::value_error("the region ends beyond int64");
  }
  const boxes::Holes found = [&] {
    const py::gil_scoped_release release;
    return boxes::find_holes(boxes, region.starts(0), most);
  }();
  std::vector<OffsetsAndSizes> listed;
  for (std::size_t at = 0; at < found.boxes.size(); ++at) listed.push_back(box_of(found.boxes, at));
  return {std::move(listed), found.complete};
}

py::tuple arrangement(const boxes::Boxes& boxes) {
  const boxes::Arrangement found = boxes::recognise(boxes);
  return py::make_tuple(arrangement_name(found.kind), found.parts, found.even);
}

}  // namespace

const char* arrangement_name(boxes::Arrangement::Kind kind) {
  switch (kind) {
    case boxes::Arrangement::Kind::kNone: return "none";
    case boxes::Arrangement::Kind::kWhole: return "whole";
    case boxes::Arrangement::Kind::kOneDim: return "1-D";
    case boxes::Arrangement::Kind::kGrid: return "grid";
    case boxes::Arrangement::Kind::kIrregular: return "irregular";
  }
  return "unknown";
}

void register_diagnosis(py::module_& m) {
  m.def("box", &box_of, py::arg("boxes"), py::arg("at"), "Returns (offsets, sizes) of one box.");
  m.def("elements", &elements_of, py::arg("boxes"),
        "Returns the sum of the volumes of the boxes; None if it does not fit int64.");
  m.def("out_of_bounds", &out_of_bounds, py::arg("boxes"), py::arg("shape"),
        "Returns the indices of boxes that are not inside a tensor of this shape.");
  m.def("overlaps", &overlaps, py::arg("boxes"), py::arg("shape"), py::arg("most"),
        "Returns the first ``most`` overlapping pairs, in the order of upstream's messages.");
  m.def("holes", &holes, py::arg("boxes"), py::arg("offsets"), py::arg("sizes"), py::arg("most"),
        "Returns the parts of a region that no box covers, and whether these are all of them.");
  m.def(
      "arrangement", &arrangement, py::arg("boxes"),
      "Returns (\"none\", \"whole\", \"1-D\", \"grid\" or \"irregular\", parts per dim, is even).");
}

}  // namespace shardplan::bindings
