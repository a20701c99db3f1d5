#include "core/wire/names.h"

#include <gtest/gtest.h>

#include "random_plans.h"

namespace shardplan::testing {
namespace {

std::string written(const wire::PlanNames& names) {
  wire::ByteWriter out;
  EXPECT_TRUE(wire::write_names(names, out));
  return out.take();
}

wire::PlanNames read(std::string_view bytes) {
  wire::ByteReader in(bytes);
  wire::PlanNames names = wire::read_names(in);
  EXPECT_EQ(in.left(), 0u);
  return names;
}

void expect_round_trip(const wire::PlanNames& names) {
  const wire::PlanNames found = read(written(names));
  EXPECT_EQ(found.names, names.names);
  EXPECT_EQ(found.shapes, names.shapes);
  EXPECT_EQ(found.shape_of_name, names.shape_of_name);
}

/// Reads hand-written bytes (parts, then names) without paths.
std::string by_hand(std::string_view parts_and_names) {
  return std::string(parts_and_names) + std::string(2, '\0');
}

TEST(CountParts, OneMoreThanDots) {
  EXPECT_EQ(wire::count_parts(""), 1u);
  EXPECT_EQ(wire::count_parts("a"), 1u);
  EXPECT_EQ(wire::count_parts("."), 2u);
  EXPECT_EQ(wire::count_parts(".a..b."), 5u);
}

TEST(WireNames, RandomRoundTrips) {
  Random random(61);
  for (int round = 0; round < 2000; ++round) {
    SCOPED_TRACE(round);
    expect_round_trip(random_names(20, random));
  }
}

TEST(WireNames, NamesThatDifferOnlyInDots) {
  expect_round_trip(
      {{"", "", ".", "..", ".", "", "a", "a.", "a..", "a.a", ".a", "a", "a"}, {}, {}});
  expect_round_trip({{std::string("\0.\0", 3), "\xFF.\xFE", std::string(1, '\0')}, {}, {}});
}

TEST(WireNames, CountsAroundTheNibble) {
  std::vector<std::string> names;
  for (std::size_t parts = 12; parts < 19; ++parts) {
    std::string name = "p0";
    for (std::size_t part = 1; part < parts; ++part) name += ".p" + std::to_string(part);
    names.push_back(name);                // one more part than the previous name
    names.push_back("x." + name);         // shares no part
    names.push_back("x." + name);         // shares all parts
    names.push_back("x." + name + ".q");  // shares all but one
    names.push_back(name);
  }
  expect_round_trip({names, {}, {}});
}

TEST(WireNames, SharedPrefixesAreSmall) {
  wire::PlanNames names;
  for (int layer = 0; layer < 100; ++layer) {
    for (const char* part : {"weight", "bias", "scale"}) {
      names.names.push_back("model.layers." + std::to_string(layer) + ".attention." + part);
    }
  }
  const std::string bytes = written(names);
  EXPECT_LT(bytes.size(), 4 * names.names.size());
  expect_round_trip(names);
}

TEST(WireNames, NamesOfMaximumLengthAndLonger) {
  std::string name(wire::kLongestName, 'x');
  name[500] = '.';
  expect_round_trip({{name, name}, {{{1, false}, {1, true}}}, {0, 0}});
  wire::ByteWriter out;
  EXPECT_FALSE(wire::write_names({{"a", name + "y"}, {}, {}}, out));
}

// A name of empty parts has the maximum number of parts.
TEST(WireNames, PathsOfMaximumParts) {
  const std::string name(wire::kLongestName, '.');
  const auto parts = static_cast<std::uint32_t>(wire::kLongestName + 1);
  wire::ByteWriter out;
  const wire::PlanNames names{{name}, {{{parts, false}}}, {0}};
  if (!wire::write_names(names, out)) return;
  EXPECT_NO_THROW(read(out.bytes()));
}

TEST(WireNames, PathsMustMatchTheirNames) {
  const wire::PlanNames fine{{"a.b.c", "d"}, {{{2, false}, {1, true}}, {{1, false}}}, {0, 1}};
  expect_round_trip(fine);
  wire::PlanNames wrong = fine;
  wrong.shape_of_name = {1, 1};
  EXPECT_THROW(read(written(wrong)), wire::BadWire);
  wrong = fine;
  wrong.shape_of_name = {0, 2};
  EXPECT_THROW(read(written(wrong)), wire::BadWire);
  wrong.shape_of_name = {0, 1, 1};
  EXPECT_THROW(read(written(wrong)), wire::BadWire);
  wrong = fine;
  wrong.shapes[0] = {{3, false}, {0, false}};
  EXPECT_THROW(read(written(wrong)), wire::BadWire);
  wrong.shapes[0] = {};
  EXPECT_THROW(read(written(wrong)), wire::BadWire);
}

TEST(WireNames, HandWrittenBytes) {
  // parts "a", "b"; names "a.b" (0 shared, 2 added), "a" (1 shared), "a.a" (1 shared, 1 added)
  const std::string_view bytes(
      "\x02\x01"
      "a\x01"
      "b\x03\x02\x00\x01\x10\x11\x00",
      12);
  EXPECT_EQ(read(by_hand(bytes)).names, (std::vector<std::string>{"a.b", "a", "a.a"}));
}

TEST(WireNames, BadCounts) {
  const auto refused = [](std::string_view bytes) {
    const std::string whole = by_hand(bytes);
    wire::ByteReader in(whole);
    EXPECT_THROW(wire::read_names(in), wire::BadWire) << ::testing::PrintToString(whole);
  };
  using std::string_view_literals::operator""sv;
  refused("\x7F"sv);      // more parts than bytes
  refused("\x01\x7F"sv);  // part longer than the input
  refused(
      "\x01\x01"
      "a\x7F"sv);  // more names than bytes
  refused(
      "\x01\x01"
      "a\x01\x00"sv);  // name without parts
  refused(
      "\x01\x01"
      "a\x01\x10"sv);  // shares a part, but there is no previous name
  refused(
      "\x01\x01"
      "a\x02\x01\x00\x20"sv);  // shares more parts than the previous name has
  refused(
      "\x01\x01"
      "a\x01\x01\x01"sv);  // part index out of range
  refused(
      "\x01\x01"
      "a\x01\xFF\x00\x7F\x00"sv);  // more parts than bytes
  refused(
      "\x01\x01"
      "a\x01\xFF\x00\x00"sv);  // name without parts, long form
  refused(
      "\x01\x01"
      "a\x01\xFF\xFF\xFF\xFF\xFF\x0F\x01\x00"sv);  // shares 2^32 - 1
}

TEST(WireNames, NameOfPartsIsTooLong) {
  wire::ByteWriter out;
  out.varint(1);
  out.string(std::string(600, 'x'));
  out.varint(1);
  out.raw(std::string_view("\x02\x00\x00", 3));  // twice
  const std::string bytes = by_hand(out.bytes());
  wire::ByteReader in(bytes);
  EXPECT_THROW(wire::read_names(in), wire::BadWire);
}

}  // namespace
}  // namespace shardplan::testing
