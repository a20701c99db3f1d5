#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/boxes/box.h"
#include "core/boxes/layout.h"
#include "core/boxes/validate.h"

/// Brute-force reference implementations: every pair, every element, every index.
namespace shardplan::testing {

struct Box {
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> sizes;

  bool operator==(const Box&) const = default;
};

using BoxList = std::vector<Box>;
using Numbers = std::vector<std::int64_t>;

/// Converts a list of boxes to columns. Every end must fit int64.
boxes::Boxes columns(std::size_t ndim, const BoxList& boxes);

bool overlap(const Box& a, const Box& b);

bool any_pair_overlaps(const BoxList& boxes);

/// Returns how many boxes cover each element of a small tensor, in row-major order. All boxes must
/// be in bounds.
std::vector<int> painted(const Numbers& shape, const BoxList& boxes);

/// Reference for `check_boxes`, for volumes that fit int64.
boxes::Fault first_fault(const Numbers& shape, const BoxList& boxes, bool must_fill);

/// Returns the overlapping pairs (wanted, saved) in the order of upstream's read items.
std::vector<std::pair<std::size_t, std::size_t>> reads_in_order(std::size_t ndim,
                                                                const BoxList& saved,
                                                                const BoxList& wanted);

/// Reference for `local_box`: lists the indices that the rank keeps, as torch does.
Box chunked(const Numbers& shape, const Numbers& mesh_shape, const Numbers& coordinate,
            std::span<const boxes::Placement> placements);

}  // namespace shardplan::testing
