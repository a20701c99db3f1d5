#include "core/pickle/writer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/pickle/encoding.h"
#include "core/pickle/frames.h"

namespace shardplan::testing {
namespace {

using namespace std::string_literals;

TEST(Writer, NumbersAreThoseOfPythonsPickle) {
  const std::pair<std::int64_t, std::string> cases[] = {
      {0, "K\0"s},
      {255, "K\xff"s},
      {256, "M\0\1"s},
      {65'535, "M\xff\xff"s},
      {65'536, "J\0\0\1\0"s},
      {-1, "J\xff\xff\xff\xff"s},
      {INT32_MAX, "J\xff\xff\xff\x7f"s},
      {INT32_MIN, "J\0\0\0\x80"s},
      {INT64_C(1) << 31, "\x8a\5\0\0\0\x80\0"s},
      {-(INT64_C(1) << 31) - 1, "\x8a\5\xff\xff\xff\x7f\xff"s},
      {(INT64_C(1) << 39) - 1, "\x8a\5\xff\xff\xff\xff\x7f"s},
      {INT64_C(1) << 39, "\x8a\6\0\0\0\0\x80\0"s},
      {-(INT64_C(1) << 39), "\x8a\5\0\0\0\0\x80"s},
      {-(INT64_C(1) << 39) - 1, "\x8a\6\xff\xff\xff\xff\x7f\xff"s},
      {-(INT64_C(1) << 55), "\x8a\7\0\0\0\0\0\0\x80"s},
      {INT64_MAX, "\x8a\x8\xff\xff\xff\xff\xff\xff\xff\x7f"s},
      {INT64_MIN, "\x8a\x8\0\0\0\0\0\0\0\x80"s},
  };
  for (const auto& [number, expected] : cases) {
    std::string coded;
    pickle::append_number(coded, number);
    EXPECT_EQ(coded, expected) << number;
  }
}

TEST(Writer, FramesHoldWhatWasWritten) {
  std::string bytes;
  std::vector<std::size_t> blocks;
  pickle::Writer out([&](std::string_view block) {
    bytes += block;
    blocks.push_back(block.size());
  });
  std::string expected;
  const std::string text(3'000'000, 'x');  // larger than a frame and than a block
  const auto write_number = [&](std::int64_t number) {
    out.number(number);
    pickle::append_number(expected, number);
    out.flush_if_full();
  };
  const auto write_numbers = [&] {
    for (std::int64_t number = 0; number < 700'000; ++number) write_number(number * number);
  };
  write_numbers();
  out.text(text);
  out.flush_if_full();
  expected += '\x8d';
  for (int shift = 0; shift < 64; shift += 8) {
    expected += static_cast<char>(text.size() >> shift);
  }
  expected += text;
  write_numbers();
  const std::vector<std::int64_t> numbers = {1, 2, 3, 4};
  for (std::size_t count = 0; count <= numbers.size(); ++count) {
    out.tuple(std::span(numbers).first(count));
    pickle::append_tuple(expected, std::span(numbers).first(count));
  }
  out.raw({});
  out.get(255);
  out.get(256);
  expected += "h\xffj\0\1\0\0"s;
  out.stop();
  EXPECT_EQ(pickle::without_frames(bytes), expected);
  ASSERT_GT(blocks.size(), 3U);
  for (std::size_t at = 0; at + 1 < blocks.size(); ++at) EXPECT_GE(blocks[at], 1U << 20);
}

}  // namespace
}  // namespace shardplan::testing
