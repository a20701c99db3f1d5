// Compares validation, overlaps, holes and reads with brute force on small tensors.

#include <algorithm>
#include <limits>
#include <vector>

#include "brute_force.h"
#include "core/boxes/holes.h"
#include "core/boxes/overlap_pairs.h"
#include "core/boxes/validate.h"
#include "core/planning/read_plan.h"
#include "fuzz_input.h"

namespace shardplan::fuzz {
namespace {

using testing::BoxList;
using testing::Numbers;

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

testing::BoxList boxes_of(Input& input, std::size_t ndim, std::size_t most) {
  testing::BoxList boxes(
      static_cast<std::size_t>(input.between(0, static_cast<std::int64_t>(most))));
  for (testing::Box& box : boxes) {
    for (std::size_t dim = 0; dim < ndim; ++dim) {
      const std::uint8_t both = input.byte();
      box.offsets.push_back((both & 0xF) - 2);
      box.sizes.push_back((both >> 4) - 2);
    }
  }
  return boxes;
}

bool inside(const testing::Numbers& shape, const testing::Box& box) {
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    if (box.offsets[dim] < 0 || box.sizes[dim] < 0 ||
        box.offsets[dim] + box.sizes[dim] > shape[dim]) {
      return false;
    }
  }
  return true;
}

void check_holes(const testing::Numbers& shape, const testing::BoxList& boxes) {
  if (!std::all_of(boxes.begin(), boxes.end(),
                   [&](const auto& box) { return inside(shape, box); })) {
    return;
  }
  testing::Numbers bounds(shape.size());
  bounds.insert(bounds.end(), shape.begin(), shape.end());
  const boxes::Boxes columns = testing::columns(shape.size(), boxes);
  const boxes::Holes holes = boxes::find_holes(columns, bounds.data(), kAll);
  expect(holes.complete, "the search for holes is not complete");
  std::vector<int> covered = testing::painted(shape, boxes);
  testing::BoxList found;
  for (std::size_t at = 0; at < holes.boxes.size(); ++at) {
    testing::Box hole{{holes.boxes.starts(at), holes.boxes.ends(at)}, {}};
    for (std::size_t dim = 0; dim < shape.size(); ++dim) {
      hole.sizes.push_back(holes.boxes.end(at, dim) - holes.boxes.start(at, dim));
    }
    found.push_back(hole);
  }
  const std::vector<int> in_hole = testing::painted(shape, found);
  for (std::size_t element = 0; element < covered.size(); ++element) {
    expect(in_hole[element] == (covered[element] == 0 ? 1 : 0),
           "holes differ from the uncovered elements");
  }
}

void run(Input input) {
  testing::Numbers shape(static_cast<std::size_t>(input.between(1, 3)));
  for (std::int64_t& size : shape) size = input.between(0, 11);
  const testing::BoxList boxes = boxes_of(input, shape.size(), 24);
  const boxes::Boxes columns = testing::columns(shape.size(), boxes);
  for (const bool must_fill : {false, true}) {
    expect(boxes::check_boxes(columns, shape, must_fill) ==
               testing::first_fault(shape, boxes, must_fill),
           "fault differs from brute force");
  }
  const std::vector<boxes::BoxPair> pairs = boxes::overlapping_pairs(columns, shape, kAll);
  std::size_t expected = 0;
  for (std::size_t a = 0; a < boxes.size(); ++a) {
    for (std::size_t b = a + 1; b < boxes.size(); ++b) {
      expected += testing::overlap(boxes[a], boxes[b]) ? 1 : 0;
    }
  }
  expect(pairs.size() == expected, "number of overlapping pairs differs from brute force");
  check_holes(shape, boxes);

  const testing::BoxList wanted = boxes_of(input, shape.size(), 6);
  columns::ReadColumns rows;
  expect(planning::append_reads(0, columns, testing::columns(shape.size(), wanted), rows),
         "reads do not fit int64");
  const auto reads = testing::reads_in_order(shape.size(), boxes, wanted);
  expect(rows.size() == reads.size(), "number of reads differs from brute force");
  for (std::size_t row = 0; row < rows.size(); ++row) {
    expect(rows.wanted[row] == reads[row].first && rows.saved[row] == reads[row].second,
           "read differs from brute force");
  }
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
