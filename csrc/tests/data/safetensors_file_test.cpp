#include "core/data/safetensors_file.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

std::string safetensors(std::string_view header, std::string_view data = "") {
  return little_endian(header.size(), 8) + std::string(header) + std::string(data);
}

data::SafetensorsFile read(const std::string& file) {
  return {part_of(file, 3), file.size()};
}

const std::string kEight(8, 'x');
constexpr const char* kTwo = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

TEST(SafetensorsFile, NamesDtypesShapesAndBytes) {
  const std::string file = safetensors(
      R"( {"__metadata__" : {"format":"pt", "x\ty":"\u00e9"},
 "w\u00e9\ud83d\ude00/\"":{"shape":[ 2 ,3],"dtype":"BF16","data_offsets":[8,20]},)"
      R"("empty":{"dtype":"F64","shape":[0,5],"data_offsets":[8,8]},)"
      R"("scalar":{"dtype":"F8_E4M3","shape":[],"data_offsets":[20,21]},)"
      R"("four":{"dtype":"F4","shape":[4],"data_offsets":[21,23]},)"
      R"("i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}   )",
      std::string(23, 'x'));
  const data::SafetensorsFile found = read(file);
  ASSERT_EQ(found.entries().size(), 5U);
  const std::uint64_t data = file.size() - 23;

  const data::SafetensorsEntry* w = found.find("w\u00e9\U0001F600/\"");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(found.name(0), "w\u00e9\U0001F600/\"");
  EXPECT_EQ(w->begin, data + 8);
  EXPECT_EQ(w->tensor.dtype, "bfloat16");
  EXPECT_EQ(w->tensor.element_size, 2U);
  EXPECT_EQ(w->tensor.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(w->tensor.strides, (std::vector<std::int64_t>{3, 1}));
  EXPECT_EQ(w->tensor.begin, 0U);
  EXPECT_EQ(w->tensor.reach, 12U);
  EXPECT_EQ(w->tensor.storage_size, 12U);

  EXPECT_EQ(found.find("empty")->tensor.reach, 0U);
  EXPECT_EQ(found.find("empty")->tensor.strides, (std::vector<std::int64_t>{5, 1}));
  EXPECT_EQ(found.find("scalar")->tensor.dtype, "float8_e4m3fn");
  EXPECT_EQ(found.find("four")->tensor.dtype, "");
  EXPECT_EQ(found.find("i")->begin, data);
  EXPECT_EQ(found.find("__metadata__"), nullptr);
  EXPECT_EQ(found.find("other"), nullptr);
}

TEST(SafetensorsFile, NoTensors) {
  EXPECT_TRUE(read(safetensors("{}")).entries().empty());
  EXPECT_TRUE(read(safetensors(R"({"__metadata__":null})")).entries().empty());
}

struct Bad {
  std::string header;
  std::string data;
  const char* problem;
};

/// Wraps fields in the header of one tensor.
std::string fields(std::string_view text) {
  return R"({"a":{)" + std::string(text) + "}}";
}

TEST(SafetensorsFile, DamagedFiles) {
  const std::vector<Bad> all{
      {kTwo, "1234567", "has 69 bytes, and its tensors end at byte 70"},
      {kTwo, "123456789", "has 71 bytes, and its tensors end at byte 70"},
      {"{}", "x", "has 11 bytes, and its tensors end at byte 10"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", "123456789012",
       "a tensor a at byte 67, and the bytes before it end at byte 63"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       "123", "has a tensor b at byte 114, and the bytes before it end at byte 115"},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       "12", "has a tensor a at byte"},
      {fields(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), kEight,
       "has a tensor a of 96 bits in 8 bytes, at byte 13"},
      {fields(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), "1", "of 12 bits in 1 bytes"},
      {fields(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"), kEight, "unknown dtype F31"},
      {fields(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])"), kEight, "unknown dtype f32"},
      {fields(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), kEight, "are no range"},
      {fields(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,9])"), kEight, "are no range"},
      {fields(R"("dtype":"F32","shape":[2])"), kEight, "without dtype, shape or data_offsets"},
      {fields(R"("dtype":"F32","data_offsets":[0,8])"), kEight, "without dtype"},
      {fields(R"("shape":[2],"data_offsets":[0,8])"), kEight, "without dtype"},
      {fields(R"("dtype":"U8","shape":[9223372036854775807,2],"data_offsets":[0,8])"), kEight,
       "whose size does not fit 64 bits"},
      {fields(R"("dtype":"I64","shape":[4611686018427387904],"data_offsets":[0,8])"), kEight,
       "whose size does not fit 64 bits"},
      {fields(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8])"), kEight,
       "a number that does not fit 64 bits"},
      {fields(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), kEight, "no ']'"},
      {fields(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), kEight, "no valid number"},
      {fields(R"("dtype":"F32","shape":[02],"data_offsets":[0,8])"), kEight, "no valid number"},
      {fields(R"("dtype":"F32","shape":[2,],"data_offsets":[0,8])"), kEight, "no valid number"},
      {fields(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), kEight, "no '['"},
      {fields(R"("dtype":1,"shape":[2],"data_offsets":[0,8])"), kEight, "no '\"'"},
      {std::string(kTwo) + "x", kEight, "more than an object at byte 62"},
      {std::string(kTwo) + '\0', kEight, "more than an object"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},})", kEight, "no '\"'"},
      {R"([])", "", "no '{' at byte 8"},
      {R"({"a")", "", "no ':'"},
      {R"({"a)", "", "a string without end"},
      {"", "", "no '{'"},
      {"\xEF\xBB\xBF{}", "", "no '{'"},
      {"{\"a\n\":1}", "", "a control character at byte 11"},
      {R"({"\x":1})", "", "an unknown escape at byte 10"},
      {R"({"\)", "", "an unknown escape"},
      {R"({"\u12g4":1})", "", "not hexadecimal"},
      {R"({"\u12)", "", "not hexadecimal"},
      {R"({"\ud83d":1})", "", "half a surrogate pair"},
      {R"({"\ud83d\u0041":1})", "", "half a surrogate pair"},
      {R"({"\ude00":1})", "", "half a surrogate pair"},
      {"{\"\xFF\":1}", "", "invalid UTF-8 at byte 10"},
      {"{\"\x80\":1}", "", "invalid UTF-8"},
      {"{\"\xC3\":1}", "", "invalid UTF-8"},
      {"{\"\xC3", "", "invalid UTF-8"},
      {"{\"\xC0\x80\":1}", "", "invalid UTF-8"},
      {"{\"\xE0\x80\x80\":1}", "", "invalid UTF-8"},
      {"{\"\xED\xA0\x80\":1}", "", "invalid UTF-8"},
      {"{\"\xF4\x90\x80\x80\":1}", "", "invalid UTF-8"},
      {"{\"\xF8\x88\x80\x80\x80\":1}", "", "invalid UTF-8"},
      {R"({"__metadata__":{"x":1}})", "", "no '\"'"},
      {R"({"__metadata__":[]})", "", "no '{'"},
      // The library reads these; upstream is left to do so.
      {R"({"a":["F32",[2],[0,8]]})", kEight, "no '{'"},
      {fields(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1)"), kEight,
       "second or unknown field x"},
      {fields(R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])"), kEight,
       "second or unknown field dtype"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":1})", kEight,
       "two tensors a, the second at byte 66"},
      {R"({"__metadata__":{},"__metadata__":{}})", "", "without dtype"},
  };
  for (const Bad& bad : all) {
    const std::string file = safetensors(bad.header, bad.data);
    try {
      read(file);
      ADD_FAILURE() << bad.header << " was read";
    } catch (const data::BadPart& problem) {
      EXPECT_NE(std::string_view(problem.what()).find(bad.problem), std::string_view::npos)
          << bad.header << ": " << problem.what();
    }
  }
}

TEST(SafetensorsFile, SizesThatLie) {
  for (const std::uint64_t size : {std::uint64_t{3}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    const std::string file = little_endian(size, 8) + "{}";
    EXPECT_THROW(read(file), data::BadPart);
  }
  EXPECT_THROW(read(""), data::BadPart);
  EXPECT_THROW(read("1234567"), data::BadPart);
  // The file has fewer bytes than it is said to have.
  const std::string file = little_endian(50'000'000, 8) + "{}";
  EXPECT_THROW(data::SafetensorsFile(part_of(file), 60'000'000), data::BadPart);
  EXPECT_THROW(data::SafetensorsFile(part_of(little_endian(100'000'001, 8)), ~std::uint64_t{0}),
               data::BadPart);
}

void expect_within(const data::SafetensorsFile& found, std::size_t size) {
  for (const data::SafetensorsEntry& entry : found.entries()) {
    EXPECT_LE(entry.begin, size);
    EXPECT_LE(entry.tensor.reach, size - entry.begin);
  }
}

TEST(SafetensorsFile, EveryTruncationAndEveryByteFlipped) {
  const std::string whole = safetensors(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b\u00e9":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
      "12345678901");
  ASSERT_EQ(read(whole).entries().size(), 2U);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(read(whole.substr(0, size)), data::BadPart) << size;
  }
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      try {
        expect_within(read(damaged), damaged.size());
      } catch (const data::BadPart&) {  // NOLINT(bugprone-empty-catch): either is right
      }
    }
  }
}

}  // namespace
}  // namespace shardplan::testing
