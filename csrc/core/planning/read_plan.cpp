#include "core/planning/read_plan.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/boxes/box_tree.h"
#include "core/util/checked.h"

namespace shardplan::planning {
namespace {

/// Maximum number of wanted boxes for which linear scans are used; more boxes are worth a tree.
constexpr std::size_t kFewWanted = 4;

/// Returns upstream's sweep dim: the first dim in which a box has the largest end, or 0 if no end
/// is positive.
std::size_t sweep_dim(const boxes::Boxes& saved, const boxes::Boxes& wanted) {
  std::size_t best = 0;
  std::int64_t furthest = 0;
  for (std::size_t dim = 0; dim < saved.ndim(); ++dim) {
    for (const boxes::Boxes* boxes : {&saved, &wanted}) {
      for (std::size_t box = 0; box < boxes->size(); ++box) {
        if (boxes->end(box, dim) > furthest) {
          furthest = boxes->end(box, dim);
          best = dim;
        }
      }
    }
  }
  return best;
}

bool push_row(std::uint32_t name, const boxes::Boxes& saved, std::size_t saved_box,
              const boxes::Boxes& wanted, std::size_t wanted_box, columns::ReadColumns& out) {
  const std::size_t ndim = saved.ndim();
  std::int64_t* row = out.push(columns::ReadKind::kTensor, name, wanted_box, saved_box, ndim);
  std::copy_n(wanted.starts(wanted_box), ndim, row);
  std::copy_n(saved.starts(saved_box), ndim, row + ndim);
  return overlap_region(saved.starts(saved_box), wanted.starts(wanted_box), ndim, row + 3 * ndim,
                        row + 2 * ndim, row + 4 * ndim);
}

}  // namespace

bool overlap_region(const std::int64_t* saved, const std::int64_t* wanted, std::size_t ndim,
                    std::int64_t* storage_offsets, std::int64_t* dest_offsets,
                    std::int64_t* lengths) {
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    const std::int64_t start = std::max(saved[dim], wanted[dim]);
    const std::int64_t end = std::min(saved[ndim + dim], wanted[ndim + dim]);
    if (!util::checked_sub(start, saved[dim], storage_offsets[dim]) ||
        !util::checked_sub(start, wanted[dim], dest_offsets[dim]) ||
        !util::checked_sub(end, start, lengths[dim])) {
      return false;
    }
  }
  return true;
}

bool append_reads(std::uint32_t name, const boxes::Boxes& saved, const boxes::Boxes& wanted,
                  columns::ReadColumns& out) {
  if (saved.empty() || wanted.empty()) return true;
  const std::size_t before = out.size();
  const std::size_t ndim = saved.ndim();
  const std::size_t sweep = sweep_dim(saved, wanted);

  std::vector<std::size_t> wanted_order(wanted.size());
  std::iota(wanted_order.begin(), wanted_order.end(), std::size_t{0});
  if (ndim > 0) {
    std::stable_sort(wanted_order.begin(), wanted_order.end(), [&](std::size_t a, std::size_t b) {
      return wanted.start(a, sweep) < wanted.start(b, sweep);
    });
  }

  std::vector<std::size_t> found;
  const auto append_found = [&](std::size_t wanted_box) {
    std::sort(found.begin(), found.end(), [&](std::size_t a, std::size_t b) {
      if (ndim > 0 && saved.end(a, sweep) != saved.end(b, sweep)) {
        return saved.end(a, sweep) < saved.end(b, sweep);
      }
      return a < b;
    });
    for (const std::size_t saved_box : found) {
      if (!push_row(name, saved, saved_box, wanted, wanted_box, out)) {
        out.truncate(before);
        return false;
      }
    }
    found.clear();
    return true;
  };

  if (wanted.size() <= kFewWanted) {
    for (const std::size_t wanted_box : wanted_order) {
      for (std::size_t box = 0; box < saved.size(); ++box) {
        if (boxes::bounds_overlap(saved.starts(box), wanted.starts(wanted_box), ndim))
          found.push_back(box);
      }
      if (!append_found(wanted_box)) return false;
    }
    return true;
  }

  const boxes::BoxTree tree(saved);
  for (const std::size_t wanted_box : wanted_order) {
    tree.query(wanted.starts(wanted_box), [&](std::size_t box) { found.push_back(box); });
    if (!append_found(wanted_box)) return false;
  }
  return true;
}

}  // namespace shardplan::planning
