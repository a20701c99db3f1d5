#include "core/boxes/holes.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "core/util/checked.h"

namespace shardplan::boxes {
namespace {

using Bounds = std::vector<std::int64_t>;  // ndim starts, then ndim ends

/// Limit on the number of boxes visited, summed over all regions.
constexpr std::size_t kMaxWork = std::size_t{1} << 28;
/// Regions with at most this many boxes try every possible cut.
constexpr std::size_t kFew = 24;

struct Region {
  Bounds bounds;
  std::vector<std::uint32_t> boxes;
};

struct Cut {
  std::size_t dim;
  std::int64_t at;
};

/// Recursively cuts the region until each part is covered by one box or overlaps none.
class HoleFinder {
 public:
  HoleFinder(const Boxes& boxes, std::size_t most)
      : all_(boxes), ndim_(boxes.ndim()), most_(most) {}

  bool find(const std::int64_t* bounds) {
    Region whole{Bounds(bounds, bounds + 2 * ndim_), {}};
    for (std::size_t dim = 0; dim < ndim_; ++dim) {
      if (whole.bounds[dim] >= whole.bounds[ndim_ + dim]) return true;
    }
    whole.boxes.resize(all_.size());
    std::iota(whole.boxes.begin(), whole.boxes.end(), 0U);
    pending_.push_back(std::move(whole));
    while (!pending_.empty()) {
      Region region = std::move(pending_.back());
      pending_.pop_back();
      if (!process(region)) return false;
    }
    return true;
  }

  std::vector<Bounds> take() { return std::move(holes_); }

 private:
  /// Records the region as a hole, drops it as covered, or cuts it in two. Returns false if a limit
  /// is reached.
  bool process(Region& region) {
    work_ += region.boxes.size();
    if (work_ > kMaxWork) return false;
    const auto misses = [&](std::uint32_t box) { return !overlaps(box, region.bounds); };
    std::erase_if(region.boxes, misses);
    const auto covers = [&](std::uint32_t box) { return this->covers(box, region.bounds); };
    if (std::ranges::any_of(region.boxes, covers)) return true;
    if (region.boxes.empty()) {
      if (holes_.size() == most_) return false;
      holes_.push_back(std::move(region.bounds));
      return true;
    }
    const Cut cut = best_cut(region);
    Region after{region.bounds, {}};
    const auto reaches = [&](std::uint32_t box) { return all_.end(box, cut.dim) > cut.at; };
    std::ranges::copy_if(region.boxes, std::back_inserter(after.boxes), reaches);
    const auto begins = [&](std::uint32_t box) { return all_.start(box, cut.dim) >= cut.at; };
    std::erase_if(region.boxes, begins);
    after.bounds[cut.dim] = cut.at;
    region.bounds[ndim_ + cut.dim] = cut.at;
    pending_.push_back(std::move(after));
    pending_.push_back(std::move(region));
    return true;
  }

  /// Returns true if a box and a region share elements.
  bool overlaps(std::uint32_t box, const Bounds& region) const {
    for (std::size_t dim = 0; dim < ndim_; ++dim) {
      const std::int64_t start = std::max(all_.start(box, dim), region[dim]);
      if (start >= std::min(all_.end(box, dim), region[ndim_ + dim])) return false;
    }
    return true;
  }

  bool covers(std::uint32_t box, const Bounds& region) const {
    for (std::size_t dim = 0; dim < ndim_; ++dim) {
      if (all_.start(box, dim) > region[dim] || all_.end(box, dim) < region[ndim_ + dim]) {
        return false;
      }
    }
    return true;
  }

  /// Returns the cut along a side of a box that crosses the fewest boxes; among equals, the most
  /// balanced one. Every box overlaps the region and none covers it, so there is a candidate.
  Cut best_cut(const Region& region) {
    constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
    Cut best{0, 0};
    std::pair<std::size_t, std::size_t> least{kMost, kMost};
    for (std::size_t dim = 0; dim < ndim_; ++dim) {
      for (const std::int64_t at : candidates(region, dim)) {
        const auto cost = cost_of(region, dim, at);
        if (cost < least) {
          best = Cut{dim, at};
          least = cost;
        }
      }
    }
    return best;
  }

  /// Returns the sides of boxes strictly inside the region along a dim; for more than kFew boxes,
  /// only their quartiles.
  std::vector<std::int64_t> candidates(const Region& region, std::size_t dim) {
    sides_.clear();
    for (const std::uint32_t box : region.boxes) {
      for (const std::int64_t side : {all_.start(box, dim), all_.end(box, dim)}) {
        if (side > region.bounds[dim] && side < region.bounds[ndim_ + dim]) sides_.push_back(side);
      }
    }
    if (region.boxes.size() <= kFew) {
      std::ranges::sort(sides_);
      sides_.erase(std::ranges::unique(sides_).begin(), sides_.end());
      return sides_;
    }
    if (sides_.empty()) return {};
    std::vector<std::int64_t> some;
    for (const std::size_t part : {1U, 2U, 3U}) {
      const auto at = sides_.begin() + static_cast<std::ptrdiff_t>(sides_.size() * part / 4);
      std::nth_element(sides_.begin(), at, sides_.end());
      some.push_back(*at);
    }
    work_ += 3 * region.boxes.size();
    return some;
  }

  /// Returns the number of boxes that a cut crosses, and the size of its larger side.
  std::pair<std::size_t, std::size_t> cost_of(const Region& region, std::size_t dim,
                                              std::int64_t at) const {
    std::size_t before = 0;
    std::size_t after = 0;
    for (const std::uint32_t box : region.boxes) {
      before += all_.start(box, dim) < at ? 1 : 0;
      after += all_.end(box, dim) > at ? 1 : 0;
    }
    return {before + after - region.boxes.size(), std::max(before, after)};
  }

  const Boxes& all_;
  std::size_t ndim_;
  std::size_t most_;
  std::size_t work_ = 0;
  std::vector<Region> pending_;
  std::vector<std::int64_t> sides_;
  std::vector<Bounds> holes_;
};

/// Merges boxes that are adjacent along `dim` and equal in all other dims. Returns true if any were
/// merged.
bool merge_along(std::vector<Bounds>& boxes, std::size_t dim) {
  if (boxes.empty()) return false;
  const std::size_t ndim = boxes.front().size() / 2;
  const auto compare_others = [&](const Bounds& a, const Bounds& b) {
    for (std::size_t other = 0; other < ndim; ++other) {
      if (other == dim) continue;
      if (a[other] != b[other]) return a[other] < b[other] ? -1 : 1;
      if (a[ndim + other] != b[ndim + other]) return a[ndim + other] < b[ndim + other] ? -1 : 1;
    }
    return 0;
  };
  std::ranges::sort(boxes, [&](const Bounds& a, const Bounds& b) {
    const int order = compare_others(a, b);
    return order != 0 ? order < 0 : a[dim] < b[dim];
  });
  std::size_t kept = 0;
  for (std::size_t at = 1; at < boxes.size(); ++at) {
    Bounds& last = boxes[kept];
    if (compare_others(last, boxes[at]) == 0 && last[ndim + dim] == boxes[at][dim]) {
      last[ndim + dim] = boxes[at][ndim + dim];
    } else if (++kept != at) {
      boxes[kept] = std::move(boxes[at]);
    }
  }
  const bool merged = kept + 1 != boxes.size();
  boxes.resize(kept + 1);
  return merged;
}

}  // namespace

Holes find_holes(const Boxes& boxes, const std::int64_t* bounds, std::size_t most) {
  const std::size_t ndim = boxes.ndim();
  HoleFinder finder(boxes, most);
  Holes holes{Boxes(ndim), finder.find(bounds)};
  std::vector<Bounds> found = finder.take();
  for (bool merged = true; merged;) {
    merged = false;
    for (std::size_t dim = 0; dim < ndim; ++dim) merged = merge_along(found, dim) || merged;
  }
  std::ranges::sort(found);
  Bounds sizes(ndim);
  for (const Bounds& hole : found) {
    bool fits = true;
    for (std::size_t dim = 0; dim < ndim; ++dim) {
      fits = util::checked_sub(hole[ndim + dim], hole[dim], sizes[dim]) && fits;
    }
    holes.complete = fits && holes.boxes.push(hole.data(), sizes.data()) && holes.complete;
  }
  return holes;
}

}  // namespace shardplan::boxes
