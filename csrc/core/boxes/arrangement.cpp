#include "core/boxes/arrangement.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace shardplan::boxes {
namespace {

using Span = std::pair<std::int64_t, std::int64_t>;

bool has_elements(const Boxes& boxes, std::size_t box) {
  for (std::size_t dim = 0; dim < boxes.ndim(); ++dim) {
    if (boxes.start(box, dim) >= boxes.end(box, dim)) return false;
  }
  return true;
}

bool one_after_another(const std::vector<Span>& spans) {
  for (std::size_t at = 1; at < spans.size(); ++at) {
    if (spans[at].first != spans[at - 1].second) return false;
  }
  return true;
}

bool are_even(const std::vector<Span>& spans) {
  const std::int64_t first = spans.front().second - spans.front().first;
  for (std::size_t at = 1; at < spans.size(); ++at) {
    const std::int64_t length = spans[at].second - spans[at].first;
    if (length > first || (length < first && at + 1 < spans.size())) return false;
  }
  return true;
}

}  // namespace

Arrangement recognise(const Boxes& boxes) {
  std::vector<std::size_t> full;
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    if (has_elements(boxes, box)) full.push_back(box);
  }
  Arrangement found;
  if (full.empty()) return found;
  found.kind = Arrangement::Kind::kIrregular;
  // Row-major index of the grid cell of each box.
  std::vector<std::size_t> cell(full.size());
  std::size_t cells = 1;
  std::size_t sharded = 0;
  std::vector<Span> spans;
  for (std::size_t dim = 0; dim < boxes.ndim(); ++dim) {
    spans.clear();
    for (const std::size_t box : full) {
      spans.emplace_back(boxes.start(box, dim), boxes.end(box, dim));
    }
    std::ranges::sort(spans);
    spans.erase(std::ranges::unique(spans).begin(), spans.end());
    // A grid with more cells than boxes is incomplete. The check also keeps `cells` from overflow.
    if (!one_after_another(spans) || spans.size() > full.size() / cells) {
      return {Arrangement::Kind::kIrregular, {}, false};
    }
    for (std::size_t at = 0; at < full.size(); ++at) {
      const Span span(boxes.start(full[at], dim), boxes.end(full[at], dim));
      const auto location = std::ranges::lower_bound(spans, span) - spans.begin();
      cell[at] = cell[at] * spans.size() + static_cast<std::size_t>(location);
    }
    cells *= spans.size();
    sharded += spans.size() > 1 ? 1 : 0;
    found.parts.push_back(spans.size());
    found.even = found.even && are_even(spans);
  }
  std::ranges::sort(cell);
  if (cells != full.size() || std::ranges::adjacent_find(cell) != cell.end()) {
    return {Arrangement::Kind::kIrregular, {}, false};
  }
  found.kind = sharded == 0   ? Arrangement::Kind::kWhole
               : sharded == 1 ? Arrangement::Kind::kOneDim
                              : Arrangement::Kind::kGrid;
  return found;
}

}  // namespace shardplan::boxes
