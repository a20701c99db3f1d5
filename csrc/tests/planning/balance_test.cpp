#include "core/planning/balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "random.h"

namespace shardplan::testing {
namespace {

using planning::SharedChunks;
using Ranks = std::vector<std::uint32_t>;

SharedChunks chunks_of(const Ranks& ranks, const std::vector<std::int64_t>& bytes) {
  SharedChunks chunks;
  for (const std::int64_t each : bytes) chunks.push(each, ranks);
  return chunks;
}

std::vector<std::int64_t> written_with(const SharedChunks& chunks,
                                       std::vector<std::int64_t> written) {
  const Ranks writers = planning::balance(chunks, written).value();
  for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk) {
    written[writers[chunk]] += chunks.bytes[chunk];
  }
  return written;
}

TEST(Balance, TheLargestIsPlacedFirst) {
  // In the order given, the ranks would write 4 and 10 bytes.
  const SharedChunks chunks = chunks_of({0, 1}, {2, 3, 2, 7});
  EXPECT_EQ(planning::balance(chunks, {0, 0}), (Ranks{1, 1, 1, 0}));
}

TEST(Balance, WhatARankMustWriteAnywayCounts) {
  const SharedChunks chunks = chunks_of({0, 1}, {4, 4});
  EXPECT_EQ(planning::balance(chunks, {8, 0}), (Ranks{1, 1}));
}

TEST(Balance, OfEqualRanksTheLowestWrites) {
  EXPECT_EQ(planning::balance(chunks_of({2, 0, 1}, {1, 1, 1}), {0, 0, 0}), (Ranks{0, 1, 2}));
}

TEST(Balance, EqualChunksOfManyRanksAreSpreadEvenly) {
  const std::vector<std::int64_t> bytes(1000, 7);
  Ranks all(32);
  std::iota(all.begin(), all.end(), 0U);
  const auto written = written_with(chunks_of(all, bytes), std::vector<std::int64_t>(32));
  EXPECT_EQ(std::ranges::max(written), 7 * 32);
  EXPECT_EQ(std::ranges::min(written), 7 * 31);
}

TEST(Balance, TheLoadsDifferByNoMoreThanOneChunk) {
  Random random(3);
  for (int round = 0; round < 500; ++round) {
    Ranks all(2 + random.index(9));
    std::iota(all.begin(), all.end(), 0U);
    std::vector<std::int64_t> bytes(50 + random.index(100));
    for (std::int64_t& each : bytes) each = static_cast<std::int64_t>(1 + random.index(1000));
    const auto written = written_with(chunks_of(all, bytes), std::vector<std::int64_t>(all.size()));
    EXPECT_LE(std::ranges::max(written) - std::ranges::min(written), std::ranges::max(bytes));
  }
}

TEST(Balance, NothingToChoose) {
  EXPECT_EQ(planning::balance({}, {}), Ranks());
  EXPECT_EQ(planning::balance({}, {1, 2}), Ranks());
}

TEST(Balance, BytesThatDoNotFit) {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(planning::balance(chunks_of({0, 1}, {most, most, 1}), {0, 0}), std::nullopt);
  EXPECT_EQ(planning::balance(chunks_of({0, 1}, {most, most}), {0, 0}), (Ranks{0, 1}));
}

TEST(Balance, ChunksWithoutARankAndUnknownRanksAreRejected) {
  EXPECT_THROW((void)planning::balance(chunks_of({}, {1}), {0}), std::invalid_argument);
  EXPECT_THROW((void)planning::balance(chunks_of({0, 2}, {1}), {0, 0}), std::invalid_argument);
  EXPECT_THROW((void)planning::balance(chunks_of({7}, {1}), {0, 0}), std::invalid_argument);
}

}  // namespace
}  // namespace shardplan::testing
