#include "core/data/shared_targets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <vector>

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;
using Positions = std::vector<std::size_t>;

struct Tensor {
  std::uint64_t address = 0;
  Numbers sizes;
  Numbers strides;
};

data::TargetBox box_of(const Tensor& tensor, const Numbers& offsets, const Numbers& lengths) {
  return {tensor.address, 4, tensor.sizes, tensor.strides, offsets, lengths};
}

/// Bytes that a box has, one element at a time.
std::vector<std::uint64_t> bytes_of(const data::TargetBox& box) {
  std::vector<std::uint64_t> bytes;
  std::int64_t count = 1;
  for (const std::int64_t length : box.lengths) count *= length;
  for (std::int64_t at = 0; at < count; ++at) {
    std::int64_t left = at;
    std::int64_t element = 0;
    for (std::size_t dim = 0; dim < box.lengths.size(); ++dim) {
      element += (box.offsets[dim] + left % box.lengths[dim]) * box.strides[dim];
      left /= box.lengths[dim];
    }
    for (std::uint64_t byte = 0; byte < box.element_size; ++byte) {
      bytes.push_back(box.address + static_cast<std::uint64_t>(element) * box.element_size + byte);
    }
  }
  return bytes;
}

TEST(FindShared, EveryBoxWithASharedByteIsFound) {
  std::mt19937 random(3);
  const auto below = [&](std::int64_t end) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
  };
  int free = 0;
  for (int round = 0; round < 5'000; ++round) {
    std::vector<Tensor> tensors;
    for (std::int64_t count = 1 + below(3); count > 0; --count) {
      const Numbers sizes{1 + below(5), 1 + below(5)};
      const std::int64_t pitch = sizes[1] + below(3);
      const bool transposed = below(2) == 0;
      tensors.push_back({static_cast<std::uint64_t>(4 * below(120)),
                         transposed ? Numbers{sizes[1], sizes[0]} : sizes,
                         transposed ? Numbers{1, pitch} : Numbers{pitch, 1}});
    }
    std::vector<Numbers> numbers(20);
    std::vector<data::TargetBox> targets;
    for (std::int64_t count = below(6); count > 0; --count) {
      const Tensor& tensor = tensors[static_cast<std::size_t>(below(3)) % tensors.size()];
      Numbers& offsets = numbers[2 * targets.size()];
      Numbers& lengths = numbers[2 * targets.size() + 1];
      for (const std::int64_t size : tensor.sizes) {
        offsets.push_back(below(size));
        lengths.push_back(below(size - offsets.back() + 1));
      }
      targets.push_back(box_of(tensor, offsets, lengths));
    }
    std::map<std::uint64_t, Positions> owners;
    for (std::size_t at = 0; at < targets.size(); ++at) {
      for (const std::uint64_t byte : bytes_of(targets[at])) owners[byte].push_back(at);
    }
    const Positions found = data::find_shared(targets);
    EXPECT_TRUE(std::ranges::is_sorted(found));
    for (const auto& [byte, who] : owners) {
      if (who.size() < 2) continue;
      for (const std::size_t at : who) {
        EXPECT_TRUE(std::ranges::binary_search(found, at)) << "round " << round << ", box " << at;
      }
    }
    free += found.empty() && targets.size() > 1 ? 1 : 0;
  }
  EXPECT_GT(free, 500);
}

TEST(FindShared, BoxesOfOneTensorThatTileItShareNothing) {
  const Tensor tensor{1000, {8, 8}, {8, 1}};
  const Numbers lengths{8, 2};
  std::vector<Numbers> offsets;
  for (std::int64_t at = 0; at < 4; ++at) offsets.push_back({0, 2 * at});
  std::vector<data::TargetBox> targets;
  for (const Numbers& one : offsets) targets.push_back(box_of(tensor, one, lengths));
  EXPECT_EQ(data::find_shared(targets), Positions());
  targets.push_back(targets[1]);
  EXPECT_EQ(data::find_shared(targets), (Positions{0, 1, 2, 3, 4}));
}

TEST(FindShared, TwoNamesOfOneTensorAndAddressesAtTheEnd) {
  const Tensor tied{1 << 20, {4, 4}, {4, 1}};
  const Tensor scalar{5000, {}, {}};
  const Tensor last{std::numeric_limits<std::uint64_t>::max() - 3, {4, 4}, {4, 1}};
  const Numbers origin{0, 0};
  const std::vector<data::TargetBox> targets{
      box_of(scalar, {}, {}), box_of(tied, origin, tied.sizes), box_of(last, origin, last.sizes),
      box_of(tied, origin, tied.sizes)};
  EXPECT_EQ(data::find_shared(targets), (Positions{1, 3}));
  const std::vector<data::TargetBox> scalars{targets[0], targets[0]};
  EXPECT_EQ(data::find_shared(scalars), (Positions{0, 1}));
  EXPECT_EQ(data::find_shared({}), Positions());
}

}  // namespace
}  // namespace shardplan::testing
