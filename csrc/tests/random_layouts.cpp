#include "random_layouts.h"

#include <algorithm>
#include <utility>

namespace shardplan::testing {
namespace {

/// Returns `count` + 1 sorted coordinates from 0 to `size`, possibly equal.
Numbers random_cuts(std::int64_t size, std::size_t count, Random& random) {
  Numbers cuts{0, size};
  for (std::size_t i = 1; i < count; ++i) cuts.push_back(random.between(0, size));
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

void split(const Box& box, std::size_t count, Random& random, BoxList& out) {
  const std::size_t dim = random.index(box.sizes.size());
  if (count < 2 || box.sizes[dim] < 2) {
    out.push_back(box);
    return;
  }
  const std::int64_t cut = random.between(1, box.sizes[dim] - 1);
  Box low = box;
  Box high = box;
  low.sizes[dim] = cut;
  high.offsets[dim] += cut;
  high.sizes[dim] -= cut;
  const std::size_t share = 1 + random.index(count - 1);
  split(low, share, random, out);
  split(high, count - share, random, out);
}

}  // namespace

Numbers random_shape(Random& random) {
  Numbers shape(1 + random.index(3));
  for (std::int64_t& size : shape) size = random.between(0, 7);
  return shape;
}

Layout runs(const Numbers& shape, std::size_t dim, std::size_t count, Random& random) {
  std::vector<std::size_t> counts(shape.size(), 1);
  counts[dim] = count;
  return grid(shape, counts, random);
}

Layout grid(const Numbers& shape, const std::vector<std::size_t>& counts, Random& random) {
  Layout layout{shape, {Box{Numbers(shape.size(), 0), shape}}};
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    const Numbers cuts = random_cuts(shape[dim], counts[dim], random);
    BoxList finer;
    for (const Box& box : layout.boxes) {
      for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        finer.push_back(box);
        finer.back().offsets[dim] = cuts[i];
        finer.back().sizes[dim] = cuts[i + 1] - cuts[i];
      }
    }
    layout.boxes = std::move(finer);
  }
  return layout;
}

Layout recursive_split(const Numbers& shape, std::size_t count, Random& random) {
  Layout layout{shape, {}};
  split({Numbers(shape.size(), 0), shape}, count, random, layout.boxes);
  return layout;
}

Layout nested_pinwheel(std::int64_t rings) {
  const std::int64_t side = 2 * rings + 1;
  Layout layout{{side, side}, {}};
  for (std::int64_t at = 0; at < rings; ++at) {
    const std::int64_t length = side - 2 * at - 1;
    layout.boxes.push_back({{at, at}, {length, 1}});
    layout.boxes.push_back({{at + length, at}, {1, length}});
    layout.boxes.push_back({{at + 1, at + length}, {length, 1}});
    layout.boxes.push_back({{at, at + 1}, {1, length}});
  }
  layout.boxes.push_back({{rings, rings}, {1, 1}});
  return layout;
}

Layout nested_corners(std::int64_t count) {
  Layout layout{{count, count}, {}};
  for (std::int64_t at = 0; at < count; ++at) {
    layout.boxes.push_back({{at, at}, {count - at, 1}});
    if (at + 1 < count) layout.boxes.push_back({{at, at + 1}, {1, count - at - 1}});
  }
  return layout;
}

Layout random_tiling(Random& random) {
  Numbers shape(1 + random.index(4));
  for (std::int64_t& size : shape) size = random.between(1, shape.size() > 2 ? 6 : 20);
  Layout layout;
  switch (random.index(5)) {
    case 0: layout = runs(shape, random.index(shape.size()), 1 + random.index(12), random); break;
    case 1: {
      std::vector<std::size_t> counts(shape.size());
      for (std::size_t& count : counts) count = 1 + random.index(4);
      layout = grid(shape, counts, random);
      break;
    }
    case 2: layout = nested_pinwheel(random.between(0, 5)); break;
    case 3: layout = nested_corners(random.between(1, 10)); break;
    default: layout = recursive_split(shape, 1 + random.index(40), random);
  }
  if (!random.one_in(3)) shuffle(layout.boxes, random);
  return layout;
}

Layout random_layout(Random& random) {
  Layout layout = random_tiling(random);
  if (random.one_in(3)) return layout;
  for (std::int64_t faults = random.between(1, 3); faults > 0 && !layout.boxes.empty(); --faults) {
    Box& box = layout.boxes[random.index(layout.boxes.size())];
    const std::size_t dim = random.index(layout.shape.size());
    switch (random.index(6)) {
      case 0:
        box = layout.boxes.back();
        layout.boxes.pop_back();
        break;
      case 1:
        // Replace one box by another. If they have equal sizes, the volumes still sum up.
        box = layout.boxes[random.index(layout.boxes.size())];
        break;
      case 2: box.sizes[dim] += random.between(-1, 1); break;
      case 3: box.offsets[dim] += random.between(-1, 1); break;
      case 4: box.sizes[dim] = 0; break;
      default: layout.boxes.push_back(box); layout.boxes.back().sizes[dim] = random.between(0, 1);
    }
  }
  return layout;
}

BoxList random_boxes(std::size_t ndim, std::size_t count, Random& random) {
  BoxList boxes(count);
  for (Box& box : boxes) {
    box = {Numbers(ndim), Numbers(ndim)};
    for (std::size_t dim = 0; dim < ndim; ++dim) {
      box.offsets[dim] = random.between(-3, 12);
      box.sizes[dim] = random.between(random.one_in(8) ? -3 : 0, 4);
    }
  }
  for (std::size_t copies = random.index(3); copies > 0 && count > 1; --copies) {
    boxes[random.index(count)] = boxes[random.index(count)];
  }
  return boxes;
}

void shuffle(BoxList& boxes, Random& random) {
  for (std::size_t left = boxes.size(); left > 1; --left) {
    std::swap(boxes[left - 1], boxes[random.index(left)]);
  }
}

}  // namespace shardplan::testing
