#include "core/data/part_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "core/data/crc32.h"
#include "core/data/tensor_pickle.h"
#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;

/// The part that torch.save of torch 2.13 writes for torch.arange(4.0).
std::string sample() {
  std::ifstream file(SHARDPLAN_SAMPLE_PART, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

data::PartFormat format() {
  const std::string part = sample();
  return data::PartFormat::of_sample(part_of(part), part.size()).value();
}

data::StoredTensor tensor_of(const std::string& dtype, std::uint64_t element_size, Numbers shape) {
  data::StoredTensor tensor;
  tensor.dtype = dtype;
  tensor.element_size = element_size;
  tensor.strides.resize(shape.size());
  std::int64_t elements = 1;
  for (std::size_t dim = shape.size(); dim-- > 0;) {
    tensor.strides[dim] = elements;
    elements *= std::max<std::int64_t>(shape[dim], 1);
  }
  if (std::ranges::find(shape, 0) != shape.end()) elements = 0;
  tensor.shape = std::move(shape);
  tensor.storage_size = static_cast<std::uint64_t>(elements) * element_size;
  return tensor;
}

std::string part_of_data(const data::PartEnds& ends, const std::string& data) {
  std::string part = ends.head() + data;
  ends.append_tail(data::crc32(data.data(), data.size()), part);
  EXPECT_EQ(part.size(), ends.size());
  return part;
}

/// Reads a part back, and compares the description, the data and all checksums.
void expect_read_back(const data::StoredTensor& tensor, const std::string& data) {
  const auto ends = format().make_ends(tensor);
  ASSERT_TRUE(ends);
  const std::string part = part_of_data(*ends, data);
  const data::ZipPart zip(part_of(part), part.size());
  for (const data::ZipMember& member : zip.members()) {
    EXPECT_EQ(data::checksum_of(part_of(part), member), member.crc) << member.name;
  }
  const data::StoredTensor read = data::read_tensor_part(part_of(part), zip);
  EXPECT_EQ(read.dtype, tensor.dtype);
  EXPECT_EQ(read.shape, tensor.shape);
  EXPECT_EQ(read.strides, tensor.strides);
  EXPECT_EQ(read.storage_offset, tensor.storage_offset);
  EXPECT_EQ(read.device, "cpu");
  EXPECT_FALSE(read.requires_grad);
  EXPECT_EQ(part.substr(read.storage_begin, read.storage_size), data);
  EXPECT_EQ(read.storage_begin % 64, 0U);
}

TEST(PartFormat, MakesTheSample) {
  const auto ends = format().make_ends(tensor_of("float32", 4, {4}));
  ASSERT_TRUE(ends);
  std::string data(16, '\0');
  const std::vector<float> numbers{0, 1, 2, 3};
  std::copy_n(reinterpret_cast<const char*>(numbers.data()), data.size(), data.begin());
  EXPECT_EQ(part_of_data(*ends, data), sample());
}

TEST(PartFormat, PartsAreReadBack) {
  std::mt19937 random(3);
  const std::vector<std::pair<std::string, std::uint64_t>> dtypes{
      {"float32", 4}, {"bfloat16", 2}, {"bool", 1},          {"complex128", 16},
      {"uint16", 2},  {"int64", 8},    {"float8_e4m3fn", 1}, {"complex32", 4}};
  for (const auto& [dtype, size] : dtypes) {
    for (int round = 0; round < 60; ++round) {
      Numbers shape(random() % 6);
      for (std::int64_t& length : shape) length = static_cast<std::int64_t>(random() % 9);
      data::StoredTensor tensor = tensor_of(dtype, size, std::move(shape));
      std::string data(static_cast<std::size_t>(tensor.storage_size), '\0');
      for (char& byte : data) byte = static_cast<char>(random());
      expect_read_back(tensor, data);
    }
  }
  expect_read_back(tensor_of("int8", 1, {300}), std::string(300, 'x'));
  expect_read_back(tensor_of("int8", 1, {70'000}), std::string(70'000, 'y'));
  expect_read_back(tensor_of("float32", 4, {1, 1, 1, 1, 1, 1, 1}), std::string(4, 'y'));
  data::StoredTensor repeated = tensor_of("float32", 4, {2});
  repeated.strides = {0};
  repeated.storage_offset = 1;
  expect_read_back(repeated, "12345678");
}

TEST(PartFormat, NumbersOfEveryWidth) {
  for (const std::int64_t number :
       {std::int64_t{255}, std::int64_t{256}, std::int64_t{65'535}, std::int64_t{65'536},
        std::int64_t{2'147'483'647}, std::int64_t{2'147'483'648}, std::int64_t{4'294'967'296},
        std::int64_t{1} << 39, (std::int64_t{1} << 55) - 1, std::int64_t{1} << 55,
        std::int64_t{9'223'372'036'854'775'807}}) {
    // A tensor without elements may have any other length.
    data::StoredTensor tensor = tensor_of("int8", 1, {0, 0});
    tensor.shape = {0, number};
    tensor.strides = {number, 1};
    expect_read_back(tensor, "");
  }
}

/// A part whose data are zeros that need no memory.
data::PartBytes part_of_zeros(const data::PartEnds& ends, const std::string& tail) {
  return [&ends, &tail](std::uint64_t offset, char* into, std::size_t count) {
    const std::uint64_t data = ends.head().size();
    const std::uint64_t end = data + ends.data_size();
    for (std::size_t at = 0; at < count; ++at, ++offset) {
      if (offset >= end + tail.size()) return at;
      into[at] = offset < data  ? ends.head()[static_cast<std::size_t>(offset)]
                 : offset < end ? '\0'
                                : tail[static_cast<std::size_t>(offset - end)];
    }
    return count;
  };
}

TEST(PartFormat, SizesAroundFourGibibytes) {
  // Sizes of the parts that torch 2.13 wrote for tensors of uint8.
  const std::vector<std::pair<std::int64_t, std::uint64_t>> sizes{{4'294'967'294, 4'294'968'905},
                                                                  {4'294'967'295, 4'294'968'925},
                                                                  {4'294'967'301, 4'294'968'925}};
  for (const auto& [elements, size] : sizes) {
    const auto ends = format().make_ends(tensor_of("uint8", 1, {elements}));
    ASSERT_TRUE(ends);
    EXPECT_EQ(ends->size(), size);
    std::string tail;
    ends->append_tail(0x12345678, tail);
    const data::PartBytes bytes = part_of_zeros(*ends, tail);
    const data::ZipPart zip(bytes, ends->size());
    const data::StoredTensor read = data::read_tensor_part(bytes, zip);
    EXPECT_EQ(read.shape, Numbers{elements});
    EXPECT_EQ(read.begin, ends->head().size());
    EXPECT_EQ(zip.find("data/0")->crc, 0x12345678U);
    const data::ZipMember* id = zip.find(".data/serialization_id");
    ASSERT_NE(id, nullptr);
    EXPECT_EQ(data::checksum_of(bytes, *id), id->crc);
  }
}

TEST(PartFormat, ASampleWithoutAlignment) {
  std::string part = sample();
  const std::size_t text = part.find("64", part.find(".storage_alignment"));
  ASSERT_LT(text, part.size());
  part.replace(text, 2, "00");
  EXPECT_FALSE(data::PartFormat::of_sample(part_of(part), part.size()));
}

TEST(PartFormat, UnknownDtypes) {
  EXPECT_FALSE(format().make_ends(tensor_of("qint8", 1, {4})));
  EXPECT_FALSE(format().make_ends(tensor_of("", 1, {4})));
}

TEST(PartFormat, EverySampleWithAChangedByteIsRejected) {
  const std::string whole = sample();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 4);
    EXPECT_FALSE(data::PartFormat::of_sample(part_of(changed), changed.size())) << at;
  }
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(data::PartFormat::of_sample(part_of(whole), size)) << size;
  }
}

}  // namespace
}  // namespace shardplan::testing
