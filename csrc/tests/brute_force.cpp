#include "brute_force.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <numeric>
#include <stdexcept>

namespace shardplan::testing {
namespace {

using Indices = std::vector<std::int64_t>;

std::int64_t product(const Numbers& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t end(const Box& box, std::size_t dim) {
  return box.offsets[dim] + box.sizes[dim];
}

/// torch.chunk, padded with empty pieces to the requested number.
std::vector<Indices> chunks(const Indices& indices, std::int64_t count) {
  const auto size = static_cast<std::int64_t>(indices.size());
  const std::int64_t length = std::max<std::int64_t>(1, (size + count - 1) / count);
  std::vector<Indices> pieces(static_cast<std::size_t>(count));
  for (std::int64_t at = 0; at < size; ++at) {
    pieces[static_cast<std::size_t>(at / length)].push_back(indices[static_cast<std::size_t>(at)]);
  }
  return pieces;
}

Indices kept(const Indices& indices, const boxes::Placement& placement, std::int64_t ranks,
             std::int64_t rank) {
  if (placement.kind == boxes::Placement::Kind::kShard) {
    return chunks(indices, ranks)[static_cast<std::size_t>(rank)];
  }
  Indices joined;
  for (const Indices& piece : chunks(indices, placement.split_factor)) {
    const Indices mine = chunks(piece, ranks)[static_cast<std::size_t>(rank)];
    joined.insert(joined.end(), mine.begin(), mine.end());
  }
  return joined;
}

}  // namespace

boxes::Boxes columns(std::size_t ndim, const BoxList& boxes) {
  boxes::Boxes out(ndim);
  for (const Box& box : boxes) {
    if (!out.push(box.offsets.data(), box.sizes.data()))
      throw std::overflow_error("the end of a box does not fit int64");
  }
  return out;
}

bool overlap(const Box& a, const Box& b) {
  for (std::size_t dim = 0; dim < a.offsets.size(); ++dim) {
    if (a.offsets[dim] >= end(b, dim) || b.offsets[dim] >= end(a, dim)) return false;
  }
  return true;
}

bool any_pair_overlaps(const BoxList& boxes) {
  for (std::size_t a = 0; a < boxes.size(); ++a) {
    for (std::size_t b = a + 1; b < boxes.size(); ++b) {
      if (overlap(boxes[a], boxes[b])) return true;
    }
  }
  return false;
}

std::vector<int> painted(const Numbers& shape, const BoxList& boxes) {
  std::vector<int> counts(static_cast<std::size_t>(product(shape)), 0);
  for (std::size_t element = 0; element < counts.size(); ++element) {
    Box point{Numbers(shape.size()), Numbers(shape.size(), 1)};
    auto rest = static_cast<std::int64_t>(element);
    for (std::size_t dim = shape.size(); dim-- > 0;) {
      point.offsets[dim] = rest % shape[dim];
      rest /= shape[dim];
    }
    for (const Box& box : boxes) counts[element] += overlap(box, point) && product(box.sizes) > 0;
  }
  return counts;
}

boxes::Fault first_fault(const Numbers& shape, const BoxList& boxes, bool must_fill) {
  if (shape.empty()) return boxes::Fault::kNone;
  std::int64_t filled = 0;
  for (const Box& box : boxes) {
    for (std::size_t dim = 0; dim < shape.size(); ++dim) {
      if (box.offsets[dim] < 0 || box.sizes[dim] < 0 || end(box, dim) > shape[dim]) {
        return boxes::Fault::kOutOfBounds;
      }
    }
    filled += product(box.sizes);
  }
  if (must_fill && filled != product(shape)) return boxes::Fault::kFill;
  return any_pair_overlaps(boxes) ? boxes::Fault::kOverlap : boxes::Fault::kNone;
}

std::vector<std::pair<std::size_t, std::size_t>> reads_in_order(std::size_t ndim,
                                                                const BoxList& saved,
                                                                const BoxList& wanted) {
  std::size_t sweep = 0;
  std::int64_t furthest = 0;
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    std::int64_t last = INT64_MIN;
    for (const BoxList* boxes : {&saved, &wanted}) {
      for (const Box& box : *boxes) last = std::max(last, end(box, dim));
    }
    if (last > furthest) {
      furthest = last;
      sweep = dim;
    }
  }
  // (start of the wanted box, its index, end of the saved one, its index): 0-d boxes have no start
  // or end.
  std::vector<std::array<std::int64_t, 4>> keys;
  for (std::size_t w = 0; w < wanted.size(); ++w) {
    for (std::size_t s = 0; s < saved.size(); ++s) {
      if (!overlap(saved[s], wanted[w])) continue;
      keys.push_back({ndim == 0 ? 0 : wanted[w].offsets[sweep], static_cast<std::int64_t>(w),
                      ndim == 0 ? 1 : end(saved[s], sweep), static_cast<std::int64_t>(s)});
    }
  }
  std::sort(keys.begin(), keys.end());
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (const auto& key : keys) {
    pairs.emplace_back(static_cast<std::size_t>(key[1]), static_cast<std::size_t>(key[3]));
  }
  return pairs;
}

Box chunked(const Numbers& shape, const Numbers& mesh_shape, const Numbers& coordinate,
            std::span<const boxes::Placement> placements) {
  Box box{Numbers(shape.size(), 0), shape};
  std::map<std::size_t, Indices> kept_of_dim;
  for (std::size_t i = 0; i < placements.size(); ++i) {
    if (placements[i].kind == boxes::Placement::Kind::kReplicate) continue;
    const auto dim = static_cast<std::size_t>(placements[i].dim);
    auto [entry, first] = kept_of_dim.try_emplace(dim);
    Indices& indices = entry->second;
    if (first) {
      indices.resize(static_cast<std::size_t>(shape[dim]));
      std::iota(indices.begin(), indices.end(), std::int64_t{0});
    }
    indices = kept(indices, placements[i], mesh_shape[i], coordinate[i]);
    box.sizes[dim] = static_cast<std::int64_t>(indices.size());
    box.offsets[dim] = indices.empty() ? shape[dim] : indices.front();
  }
  return box;
}

}  // namespace shardplan::testing
