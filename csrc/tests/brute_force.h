#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/boxes/box.h"
#include "core/boxes/layout.h"
#include "core/boxes/validate.h"

/// The plain answers that the core is compared with: every pair, every element, every index.
namespace shardplan::testing {

struct Box {
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> sizes;

  bool operator==(const Box&) const = default;
};

using BoxList = std::vector<Box>;
using Numbers = std::vector<std::int64_t>;

/// The boxes as columns; every one must fit.
boxes::Boxes columns(std::size_t ndim, const BoxList& boxes);

bool overlap(const Box& a, const Box& b);

bool any_pair_overlaps(const BoxList& boxes);

/// How many boxes cover each element of a small tensor, row by row. All boxes are in bounds.
std::vector<int> painted(const Numbers& shape, const BoxList& boxes);

/// What is first found wrong, as `check_boxes` says it, for tensors whose volumes fit int64.
boxes::Fault first_fault(const Numbers& shape, const BoxList& boxes, bool must_fill);

/// Pairs (wanted, saved) that overlap, in the order in which upstream plans their reads.
std::vector<std::pair<std::size_t, std::size_t>> reads_in_order(std::size_t ndim,
                                                                const BoxList& saved,
                                                                const BoxList& wanted);

/// The local box of a rank by lists of the indices that it keeps, as torch works it out.
Box chunked(const Numbers& shape, const Numbers& mesh_shape, const Numbers& coordinate,
            std::span<const boxes::Placement> placements);

}  // namespace shardplan::testing
