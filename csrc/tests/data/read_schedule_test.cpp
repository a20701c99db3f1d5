#include "core/data/read_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;

std::vector<data::Read> reads_of(const data::StridedCopy& copy, std::uint64_t max_bytes) {
  std::vector<data::Run> runs;
  std::vector<data::Read> reads;
  data::ReadSizes sizes = data::kFileSizes;
  sizes.max_scattered = max_bytes;
  data::for_each_read(copy, sizes, runs, [&](const data::Read& read) { reads.push_back(read); });
  return reads;
}

TEST(ReadsOfACopy, CoverEveryRunOnceAndNoPageWithoutAWantedByte) {
  std::mt19937 random(3);
  const auto below = [&](std::uint64_t end) { return random() % end; };
  for (int round = 0; round < 500; ++round) {
    data::StridedCopy copy;
    copy.source = below(10000);
    copy.run = 1 + below(below(2) == 0 ? 100 : 9000);
    std::uint64_t stride = copy.run;
    for (std::uint64_t dims = below(4); dims > 0; --dims) {
      stride += below(2) == 0 ? below(64) : below(12000);
      const std::uint64_t count = 2 + below(6);
      copy.dims.insert(copy.dims.begin(), {count, stride, 0});
      stride *= count;
    }
    std::set<std::uint64_t> pages;
    std::vector<std::uint64_t> wanted;
    copy.for_each_run([&](std::uint64_t source, std::uint64_t) {
      wanted.push_back(source);
      for (std::uint64_t page = source / data::kFileSizes.page;
           page <= (source + copy.run - 1) / data::kFileSizes.page; ++page) {
        pages.insert(page);
      }
    });
    const std::uint64_t max_bytes = 1 + below(100000);
    std::vector<data::Run> runs;
    std::vector<std::uint64_t> found;
    std::uint64_t end = 0;
    data::ReadSizes sizes = data::kFileSizes;
    sizes.max_scattered = max_bytes;
    data::for_each_read(copy, sizes, runs, [&](const data::Read& read) {
      EXPECT_GE(read.begin, end);
      end = read.begin + read.length;
      EXPECT_TRUE(read.runs.size() == 1 || read.length <= max_bytes);
      EXPECT_EQ(read.runs.front().source, read.begin);
      EXPECT_EQ(read.runs.back().source + copy.run, end);
      for (const data::Run& run : read.runs) found.push_back(run.source);
      for (std::uint64_t page = read.begin / data::kFileSizes.page;
           page <= (end - 1) / data::kFileSizes.page; ++page) {
        EXPECT_TRUE(pages.contains(page)) << "a page without a wanted byte is read";
      }
    });
    EXPECT_EQ(found, wanted);
  }
}

TEST(ReadsOfACopy, OfOverlappingRunsStayWithinTheirRead) {
  // An expanded tensor: all rows have the same bytes.
  data::StridedCopy copy;
  copy.source = 40;
  copy.run = 8;
  copy.dims = {{100, 0, 8}};
  std::vector<data::Run> runs;
  data::for_each_read(copy, data::kFileSizes, runs, [&](const data::Read& read) {
    EXPECT_EQ(read.begin, 40);
    EXPECT_EQ(read.length, 8);
    EXPECT_EQ(read.runs.size(), 100);
  });
  // Runs that go back in the file begin another read.
  copy.dims = {{2, 100, 16}, {2, 90, 8}, {2, 80, 4}};
  const std::vector<data::Read> reads = reads_of(copy, 20);
  EXPECT_TRUE(std::ranges::any_of(reads, [](const data::Read& read) { return read.begin == 210; }));
  EXPECT_TRUE(std::ranges::any_of(reads, [](const data::Read& read) { return read.begin == 140; }));
  EXPECT_FALSE(std::ranges::is_sorted(reads, {}, &data::Read::begin));
}

data::ReadRequest request_of(std::uint32_t file, std::uint64_t begin, std::uint64_t length,
                             const Numbers& box) {
  data::ReadRequest request;
  request.file = file;
  request.begin = begin;
  request.length = length;
  request.offsets = box;
  request.lengths = box;
  request.element_size = 1;
  return request;
}

TEST(ReadSchedule, EveryRequestOnceInFileOrder) {
  std::mt19937 random(11);
  std::vector<Numbers> boxes;
  for (std::int64_t size = 0; size < 100000; size += 5000) boxes.push_back({size});
  for (int round = 0; round < 300; ++round) {
    std::vector<data::ReadRequest> requests;
    for (std::uint64_t count = random() % 60; count > 0; --count) {
      requests.push_back(request_of(static_cast<std::uint32_t>(random() % 3), random() % 40 * 3000,
                                    random() % 8 * 15000 + 1000, boxes[random() % boxes.size()]));
    }
    const data::ReadSchedule schedule = data::schedule_reads(requests);
    auto sorted = schedule.order;
    std::ranges::sort(sorted);
    for (std::size_t at = 0; at < sorted.size(); ++at) EXPECT_EQ(sorted[at], at);
    ASSERT_EQ(sorted.size(), requests.size());

    std::size_t part_at = 0;
    std::size_t request_at = 0;
    for (const data::BlockTask& block : schedule.blocks) {
      EXPECT_EQ(block.first, part_at);
      for (std::size_t part = 0; part < block.count; ++part, ++part_at) {
        const data::PartTask& task = schedule.parts[part_at];
        EXPECT_EQ(task.first, request_at);
        const data::ReadRequest& first = requests[schedule.order[task.first]];
        EXPECT_GE(first.begin, block.begin);
        EXPECT_LE(first.begin + first.length, block.begin + block.length);
        EXPECT_EQ(first.file, requests[schedule.order[schedule.parts[block.first].first]].file);
        for (std::size_t at = 0; at < task.count; ++at, ++request_at) {
          const data::ReadRequest& one = requests[schedule.order[request_at]];
          EXPECT_EQ(std::tuple(one.file, one.begin, one.length),
                    std::tuple(first.file, first.begin, first.length));
        }
      }
      EXPECT_TRUE(block.whole || block.count == 1);
      EXPECT_LE(block.whole ? block.length : 0, data::kFileSizes.max_block);
    }
    EXPECT_EQ(request_at, requests.size());
  }
}

TEST(ReadSchedule, APartIsReadWholeIfItIsSmallOrWanted) {
  const auto is_whole = [](std::uint64_t length, std::int64_t wanted) {
    const Numbers box{wanted};
    const std::vector<data::ReadRequest> requests{request_of(0, 5, length, box)};
    return data::schedule_reads(requests).blocks.front().whole;
  };
  EXPECT_TRUE(is_whole(16384, 1));
  EXPECT_FALSE(is_whole(16385, 1));
  EXPECT_TRUE(is_whole(65536, 60000));
  EXPECT_FALSE(is_whole(65537, 65000));
}

TEST(ReadSchedule, BytesWantedSaturate) {
  const Numbers huge(3, std::int64_t{1} << 40);
  EXPECT_EQ(request_of(0, 0, 1, huge).bytes_wanted(), ~std::uint64_t{0});
  const std::vector<data::ReadRequest> requests(3, request_of(0, ~std::uint64_t{0} - 5, 900, huge));
  EXPECT_EQ(data::schedule_reads(requests).parts.size(), 1);
}

TEST(SplitBox, PiecesAreContiguousAndCoverTheBoxInOrder) {
  std::mt19937 random(5);
  for (int round = 0; round < 1000; ++round) {
    Numbers lengths(random() % 4);
    std::int64_t elements = 1;
    for (std::int64_t& length : lengths) {
      length = static_cast<std::int64_t>(random() % 7);
      elements *= length;
    }
    const std::uint64_t most = 1 + random() % 50;
    std::int64_t next = 0;
    for (const data::BoxPiece& piece : data::split_box(lengths, most)) {
      std::int64_t begin = 0;
      std::int64_t last = 0;
      std::int64_t count = 1;
      std::int64_t stride = 1;
      for (std::size_t dim = lengths.size(); dim-- > 0;) {
        begin += piece.offsets[dim] * stride;
        last += (piece.offsets[dim] + piece.lengths[dim] - 1) * stride;
        count *= piece.lengths[dim];
        stride *= lengths[dim];
      }
      EXPECT_EQ(begin, next);
      EXPECT_EQ(last - begin + 1, count) << "the piece is not contiguous";
      EXPECT_LE(static_cast<std::uint64_t>(count), most);
      next = last + 1;
    }
    EXPECT_EQ(next, elements);
  }
}

}  // namespace
}  // namespace shardplan::testing
