#include "core/data/safetensors_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/data/safetensors_file.h"
#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

using Metadata = std::vector<std::pair<std::string_view, std::string_view>>;

std::string json_of(std::string_view text, bool ascii) {
  std::string out;
  data::append_json_string(text, ascii, out);
  return out;
}

TEST(JsonString, EscapesAsThePythonAndTheRustLibraries) {
  EXPECT_EQ(json_of("a \"b\" \\ \n\r\t\b\f\x01\x1f", true),
            R"("a \"b\" \\ \n\r\t\b\f\u0001\u001f")");
  EXPECT_EQ(json_of("\x7f\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", true),
            R"("\u007f\u00e4\u20ac\ud83d\ude00")");
  EXPECT_EQ(json_of("\x7f\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", false),
            "\"\x7f\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
  EXPECT_EQ(json_of("", false), "\"\"");
}

TEST(JsonString, CutTextIsNotReadBeyondItsEnd) {
  for (const std::string& cut :
       std::vector<std::string>{"\xf0", "\xf0\x9f", "\xe2\x82", "\xff", "\x80"}) {
    EXPECT_GE(json_of(cut, true).size(), 2U);
  }
}

TEST(SafetensorsLayout, TensorsAreOrderedByDtypeAndName) {
  const std::vector<std::int64_t> shape{2, 3};
  const std::vector<data::SafetensorsItem> items{
      {"b", "uint8", shape, 6},
      {"z", "float32", shape, 24},
      {"a", "float32", shape, 24},
      {"c", "int64", {}, 8},
  };
  const Metadata metadata{{"k", "\"v\""}, {"format", "pt"}};
  const auto layout = data::lay_out_safetensors(items, metadata);
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout->order, (std::vector<std::size_t>{3, 2, 1, 0}));
  const std::string expected = R"({"__metadata__":{"k":"\"v\"","format":"pt"},)"
                               R"("c":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                               R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},)"
                               R"("z":{"dtype":"F32","shape":[2,3],"data_offsets":[32,56]},)"
                               R"("b":{"dtype":"U8","shape":[2,3],"data_offsets":[56,62]}})";
  EXPECT_EQ(layout->header.size() % 8, 0U);
  EXPECT_EQ(layout->header.substr(8, expected.size()), expected);
  EXPECT_TRUE(std::ranges::all_of(layout->header.substr(8 + expected.size()),
                                  [](char byte) { return byte == ' '; }));

  const std::string file = layout->header + std::string(62, '\0');
  const data::SafetensorsFile read(part_of(file), file.size());
  ASSERT_EQ(read.entries().size(), 4U);
  EXPECT_EQ(read.find("z")->begin, layout->header.size() + 32);
}

TEST(SafetensorsLayout, NoTensorsAndNoMetadata) {
  const auto layout = data::lay_out_safetensors({}, {});
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout->header, std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
}

TEST(SafetensorsLayout, WhatTheLibraryDoesNotWrite) {
  const std::vector<std::int64_t> shape{1};
  const auto is_laid_out = [&](std::vector<data::SafetensorsItem> items) {
    return data::lay_out_safetensors(items, {}).has_value();
  };
  EXPECT_TRUE(is_laid_out({{"a", "bool", shape, 1}}));
  EXPECT_FALSE(is_laid_out({{"a", "complex128", shape, 16}}));
  EXPECT_FALSE(is_laid_out({{"a", "", shape, 1}}));
  EXPECT_FALSE(is_laid_out({{"a", "bool", shape, 1}, {"a", "int8", shape, 1}}));
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_FALSE(is_laid_out({{"a", "bool", shape, kMax}, {"b", "bool", shape, 1}}));
  const std::string name(data::kMaxSafetensorsHeader, 'a');
  EXPECT_FALSE(is_laid_out({{name, "bool", shape, 1}}));
}

}  // namespace
}  // namespace shardplan::testing
