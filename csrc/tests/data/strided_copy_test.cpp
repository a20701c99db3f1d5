#include "core/data/strided_copy.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;

/// Byte of the target -> byte of the source, for every byte of a box. One element at a time.
std::map<std::uint64_t, std::uint64_t> bytes_by_brute_force(
    std::uint64_t element, std::uint64_t begin, const Numbers& strides, const Numbers& offsets,
    const Numbers& lengths, const Numbers& target_strides) {
  std::map<std::uint64_t, std::uint64_t> bytes;
  std::int64_t count = 1;
  for (const std::int64_t length : lengths) count *= length;
  for (std::int64_t at = 0; at < count; ++at) {
    std::int64_t left = at;
    std::int64_t from = 0;
    std::int64_t to = 0;
    for (std::size_t dim = lengths.size(); dim-- > 0;) {
      const std::int64_t index = left % lengths[dim];
      left /= lengths[dim];
      from += (offsets[dim] + index) * strides[dim];
      to += index * target_strides[dim];
    }
    for (std::uint64_t byte = 0; byte < element; ++byte) {
      bytes[static_cast<std::uint64_t>(to) * element + byte] =
          begin + static_cast<std::uint64_t>(from) * element + byte;
    }
  }
  return bytes;
}

std::map<std::uint64_t, std::uint64_t> bytes_of(const data::StridedCopy& copy) {
  std::map<std::uint64_t, std::uint64_t> bytes;
  copy.for_each_run([&](std::uint64_t source, std::uint64_t target) {
    for (std::uint64_t byte = 0; byte < copy.run; ++byte) {
      EXPECT_TRUE(bytes.emplace(target + byte, source + byte).second) << "a byte is written twice";
    }
  });
  return bytes;
}

Numbers contiguous(const Numbers& lengths) {
  Numbers strides(lengths.size());
  std::int64_t elements = 1;
  for (std::size_t dim = lengths.size(); dim-- > 0;) {
    strides[dim] = elements;
    elements *= lengths[dim];
  }
  return strides;
}

TEST(StridedCopy, OneRunForRowsThatAreContiguousOnBothSides) {
  const Numbers strides = contiguous({10, 4, 5});
  const auto copy = data::copy_of_box(4, {100, strides}, Numbers{2, 0, 0}, Numbers{3, 4, 5},
                                      {0, contiguous({3, 4, 5})});
  ASSERT_TRUE(copy);
  EXPECT_TRUE(copy->dims.empty());
  EXPECT_EQ(copy->source, 100 + 2 * 20 * 4);
  EXPECT_EQ(copy->run, 3 * 20 * 4);
}

TEST(StridedCopy, RandomBoxesAgreeWithBruteForce) {
  std::mt19937 random(7);
  const auto below = [&](std::int64_t end) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
  };
  for (int round = 0; round < 3000; ++round) {
    const auto ndim = static_cast<std::size_t>(below(5));
    Numbers shape(ndim);
    Numbers offsets(ndim);
    Numbers lengths(ndim);
    for (std::size_t dim = 0; dim < ndim; ++dim) {
      shape[dim] = 1 + below(6);
      offsets[dim] = below(shape[dim]);
      lengths[dim] = below(10) == 0 ? 0 : 1 + below(shape[dim] - offsets[dim]);
    }
    // Layouts with dims in any order, and with gaps.
    const auto random_strides = [&](const Numbers& sizes) {
      std::vector<std::size_t> order(ndim);
      for (std::size_t dim = 0; dim < ndim; ++dim) order[dim] = dim;
      if (below(3) == 0) std::shuffle(order.begin(), order.end(), random);
      Numbers strides(ndim);
      std::int64_t elements = 1;
      for (std::size_t dim = ndim; dim-- > 0;) {
        strides[order[dim]] = elements;
        elements *= std::max<std::int64_t>(sizes[order[dim]], 1) + (below(4) == 0 ? below(3) : 0);
      }
      return strides;
    };
    Numbers strides = random_strides(shape);
    if (ndim > 0 && below(8) == 0)
      strides[static_cast<std::size_t>(below(static_cast<std::int64_t>(ndim)))] =
          0;  // an expanded tensor
    const Numbers target_strides = random_strides(lengths);
    const std::uint64_t element = std::uint64_t{1} << below(4);
    const auto begin = static_cast<std::uint64_t>(below(100));

    const auto copy =
        data::copy_of_box(element, {begin, strides}, offsets, lengths, {0, target_strides});
    ASSERT_TRUE(copy);
    const auto expected =
        bytes_by_brute_force(element, begin, strides, offsets, lengths, target_strides);
    EXPECT_EQ(bytes_of(*copy), expected);
    EXPECT_EQ(copy->bytes(), expected.size());

    const auto max_bytes = static_cast<std::uint64_t>(1 + below(64));
    std::vector<data::StridedCopy> pieces;
    copy->split(max_bytes, pieces);
    std::map<std::uint64_t, std::uint64_t> together;
    for (const data::StridedCopy& piece : pieces) {
      EXPECT_LE(piece.bytes(), max_bytes);
      EXPECT_GT(piece.bytes(), 0);
      for (const auto& [to, from] : bytes_of(piece)) {
        EXPECT_TRUE(together.emplace(to, from).second) << "two pieces write one byte";
      }
    }
    EXPECT_EQ(together, expected);
  }
}

TEST(IsWithoutOverlap, AgreesWithBruteForce) {
  std::mt19937 random(7);
  const auto below = [&](int limit) { return static_cast<std::int64_t>(random() % limit); };
  int without = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::size_t ndim = random() % 4;
    Numbers lengths(ndim);
    Numbers strides(ndim);
    for (std::size_t dim = 0; dim < ndim; ++dim) {
      lengths[dim] = below(4);
      strides[dim] = below(12);
    }
    std::set<std::int64_t> seen;
    bool overlaps = false;
    std::int64_t count = 1;
    for (const std::int64_t length : lengths) count *= length;
    for (std::int64_t at = 0; at < count; ++at) {
      std::int64_t left = at;
      std::int64_t element = 0;
      for (std::size_t dim = 0; dim < ndim; ++dim) {
        element += left % lengths[dim] * strides[dim];
        left /= lengths[dim];
      }
      overlaps = overlaps || !seen.insert(element).second;
    }
    const bool told = data::is_without_overlap(lengths, strides);
    ASSERT_FALSE(told && overlaps);
    without += told && count > 1 ? 1 : 0;
  }
  EXPECT_GT(without, 2'000);
}

TEST(IsWithoutOverlap, PartsOfLargerTensorsInAnyOrderOfDims) {
  EXPECT_TRUE(data::is_without_overlap(Numbers{6, 10}, Numbers{13, 1}));
  EXPECT_TRUE(data::is_without_overlap(Numbers{10, 6}, Numbers{1, 13}));
  EXPECT_TRUE(data::is_without_overlap(Numbers{6, 10}, Numbers{20, 2}));
  EXPECT_TRUE(data::is_without_overlap(Numbers{1, 10}, Numbers{0, 1}));
  EXPECT_FALSE(data::is_without_overlap(Numbers{2, 10}, Numbers{0, 1}));
  EXPECT_FALSE(data::is_without_overlap(Numbers{2, 10}, Numbers{9, 1}));
  constexpr std::int64_t kLarge = std::numeric_limits<std::int64_t>::max();
  EXPECT_FALSE(data::is_without_overlap(Numbers{3, 10}, Numbers{kLarge, 1}));
}

TEST(StridedCopy, NumbersThatDoNotFitHaveNoCopy) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  const auto copy = [](std::uint64_t begin, std::int64_t stride, std::int64_t offset,
                       std::int64_t length, std::int64_t target_stride) {
    return data::copy_of_box(8, {begin, Numbers{stride}}, Numbers{offset}, Numbers{length},
                             {0, Numbers{target_stride}});
  };
  EXPECT_TRUE(copy(0, 1, 0, 4, 1));
  EXPECT_FALSE(copy(0, -1, 0, 4, 1));
  EXPECT_FALSE(copy(0, 1, -1, 4, 1));
  EXPECT_FALSE(copy(0, 1, 0, -4, 1));
  EXPECT_FALSE(copy(0, 1, 0, 4, -1));
  EXPECT_FALSE(copy(0, kMax, 0, 4, 1));
  EXPECT_FALSE(copy(0, 1, kMax, 4, 1));
  EXPECT_FALSE(copy(0, 1, 0, kMax, 1));
  EXPECT_FALSE(copy(0, 0, 0, kMax, 0));
  EXPECT_FALSE(copy(0, 1, 0, 4, kMax / 8));
  EXPECT_FALSE(copy(static_cast<std::uint64_t>(kMax) - 31, 1, 0, 4, 1));
  EXPECT_TRUE(copy(static_cast<std::uint64_t>(kMax) - 32, 1, 0, 4, 1));
  // An empty box copies nothing, wherever it is.
  EXPECT_EQ(copy(0, kMax, kMax, 0, kMax)->bytes(), 0);
}

}  // namespace
}  // namespace shardplan::testing
