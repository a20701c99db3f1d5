// Compares the boxes of all ranks of a mesh with brute force. Arguments of any size give a box or
// none, and a box lies in the tensor.

#include <vector>

#include "brute_force.h"
#include "core/boxes/layout.h"
#include "core/boxes/mesh.h"
#include "fuzz_input.h"
#include "random_plans.h"

namespace shardplan::fuzz {
namespace {

using testing::Numbers;
using testing::Random;
using Placements = std::vector<boxes::Placement>;

bool local(const Numbers& shape, const Numbers& mesh, const Numbers& coordinate,
           const Placements& placements, testing::Box& box) {
  box = {Numbers(shape.size()), Numbers(shape.size())};
  return boxes::local_box(shape, mesh, coordinate, placements, box.offsets.data(),
                          box.sizes.data());
}

Placements placements_of(Random& random, std::size_t count, std::int64_t lowest_dim,
                         std::int64_t highest_dim) {
  Placements placements(count);
  for (boxes::Placement& placement : placements) {
    placement.kind = static_cast<boxes::Placement::Kind>(random.index(3));
    placement.dim = random.between(lowest_dim, highest_dim);
    placement.split_factor = random.between(1, 8);
  }
  return placements;
}

void small(Random& random) {
  Numbers shape(1 + random.index(3));
  for (std::int64_t& size : shape) size = random.between(0, 40);
  Numbers mesh(1 + random.index(3));
  for (std::int64_t& ranks : mesh) ranks = random.between(1, 4);
  const std::size_t count = random.one_in(4) ? random.index(mesh.size()) : mesh.size();
  const auto last = static_cast<std::int64_t>(shape.size()) - 1;
  const Placements placements = placements_of(random, count, 0, last);
  boxes::for_each_coordinate(mesh, [&](const Numbers& coordinate) {
    testing::Box box;
    expect(local(shape, mesh, coordinate, placements, box), "a rank has no box");
    expect(box == testing::chunked(shape, mesh, coordinate, placements),
           "a box differs from brute force");
  });
}

void any(Random& random) {
  Numbers shape(random.index(4));
  for (std::int64_t& size : shape) size = testing::random_number(random);
  Numbers mesh(random.index(5));
  Numbers coordinate(mesh.size());
  for (std::size_t dim = 0; dim < mesh.size(); ++dim) {
    mesh[dim] = testing::random_number(random);
    coordinate[dim] = testing::random_number(random);
  }
  Placements placements = placements_of(random, random.index(6), -1, 3);
  for (boxes::Placement& placement : placements) {
    placement.split_factor = testing::random_number(random);
  }
  testing::Box box;
  if (!local(shape, mesh, coordinate, placements, box)) return;
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    expect(box.offsets[dim] >= 0 && box.sizes[dim] >= 0 && box.offsets[dim] <= shape[dim] &&
               box.sizes[dim] <= shape[dim],
           "a box leaves the tensor");
  }
}

void run(Input input) {
  const bool is_small = input.byte() % 2 == 0;
  Random random(input.rest());
  is_small ? small(random) : any(random);
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
