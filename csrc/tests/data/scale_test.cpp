// Adversarial parts. Cost must be linear in the size, as in pickle/scale_test.cpp.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "core/data/tensor_part.h"
#include "counted_allocations.h"
#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

struct PartShape {
  const char* name;
  std::string (*of)(std::size_t scale);
  const char* problem;  // substring of the error; empty if the part is read
};

std::string many_members(std::size_t scale) {
  auto members = members_of(PickledTensor{}.pickle(), std::string(48, 'x'));
  for (std::size_t at = 0; at < scale; ++at) {
    members.push_back({"archive/data/" + std::to_string(at + 1), "x"});
  }
  return zipped(members);
}

/// Names that differ only at their ends.
std::string long_names(std::size_t scale) {
  auto members = members_of(PickledTensor{}.pickle(), std::string(48, 'x'));
  for (std::size_t at = 0; at < scale / 10; ++at) {
    members.push_back({"archive/" + std::string(1'000, 'x') + std::to_string(at), ""});
  }
  return zipped(members);
}

std::string many_dims(std::size_t scale) {
  PickledTensor tensor;
  tensor.elements = pickled_int(1);
  tensor.shape = repeated(pickled_int(1), scale);
  tensor.strides = tensor.shape;
  return tensor_part(tensor.pickle(), std::string(4, 'x'));
}

/// Members nested in each other.
std::string nested(std::size_t scale) {
  auto members = members_of(PickledTensor{}.pickle(), std::string(48, 'x'));
  for (std::size_t at = 0; at < scale; ++at) {
    members.push_back({"archive/" + std::to_string(at), "x"});
    members.back().more_size = (scale - at) * 8;
  }
  return zipped(members);
}

/// Storage key of doubled tuples, whose string form would have 2^n characters.
std::string doubled_key(std::size_t scale) {
  PickledTensor tensor;
  tensor.key = ")";
  for (std::size_t at = 0; at < scale / 10; ++at) tensor.key += "q\x01h\x01\x86";
  return tensor_part(tensor.pickle());
}

/// Stride that is a Python int of many bytes.
std::string wide_stride(std::size_t scale) {
  PickledTensor tensor;
  tensor.strides = "\x8b" + little_endian(scale * 10, 4) + std::string(scale * 10, '\x7f');
  return tensor_part(tensor.pickle());
}

/// Shape of doubled tuples: each tuple holds the next one twice.
std::string doubled_shape(std::size_t scale) {
  PickledTensor tensor;
  tensor.shape = ")";
  for (std::size_t at = 0; at < scale / 10; ++at) tensor.shape += "q\x01h\x01\x86";
  return tensor_part(tensor.pickle());
}

/// String that claims a length of 2 GB.
std::string claimed_text(std::size_t scale) {
  PickledTensor tensor;
  tensor.key = "X\xff\xff\xff\x7f" + std::string(scale, 'x');
  return tensor_part(tensor.pickle());
}

constexpr std::size_t kUnit = 100;
constexpr std::size_t kMaxAByte = 400;
constexpr std::size_t kMaxAnyway = std::size_t{2} << 20;

struct Cost {
  std::size_t bytes = 0;
  std::size_t read = 0;
  std::size_t allocated = 0;
  double seconds = 0;
  std::string problem;
};

Cost cost_of(const std::string& bytes) {
  Cost cost;
  cost.bytes = bytes.size();
  const data::PartBytes all = part_of(bytes);
  const data::PartBytes source = [&](std::uint64_t offset, char* into, std::size_t count) {
    const std::size_t given = all(offset, into, count);
    cost.read += given;
    return given;
  };
  const std::size_t before = allocated_bytes();
  const auto began = std::chrono::steady_clock::now();
  try {
    const data::ZipPart part(source, bytes.size());
    for (const data::ZipMember& member : part.members()) data::checksum_of(source, member);
    data::read_tensor_part(source, part);
  } catch (const data::BadPart& problem) {
    cost.problem = problem.what();
  }
  cost.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  cost.allocated = allocated_bytes() - before;
  return cost;
}

class PartOfScale : public ::testing::TestWithParam<PartShape> {};

TEST_P(PartOfScale, CostIsLinearInItsSize) {
  const PartShape& shape = GetParam();
  std::vector<Cost> costs;
  for (const std::size_t scale : {1, 10, 100}) {
    const Cost& cost = costs.emplace_back(cost_of(shape.of(scale * kUnit)));
    EXPECT_LE(cost.allocated, kMaxAnyway + kMaxAByte * cost.bytes) << scale;
    // Everything once, and the pickle twice.
    EXPECT_LE(cost.read, 2 * cost.bytes) << scale;
    const std::string_view expected = shape.problem;
    if (expected.empty()) {
      EXPECT_EQ(cost.problem, "");
    } else {
      EXPECT_NE(cost.problem.find(expected), std::string::npos) << cost.problem;
    }
  }
  const double most = 1 + 4e-6 * static_cast<double>(costs[2].bytes);
  EXPECT_LE(costs[2].seconds, SHARDPLAN_SLOWED_BY * most);
  const double grown = static_cast<double>(costs[2].bytes) / static_cast<double>(costs[1].bytes);
  EXPECT_LE(costs[2].seconds, 4 * grown * std::max(costs[1].seconds, 0.005));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, PartOfScale,
    ::testing::Values(PartShape{"many_members", many_members, ""},
                      PartShape{"long_names", long_names, ""},
                      PartShape{"many_dims", many_dims, ""},
                      PartShape{"nested", nested, "overlaps the next record"},
                      PartShape{"doubled_key", doubled_key, "storage key that is not a string"},
                      PartShape{"wide_stride", wide_stride, "strides with a value that is not"},
                      PartShape{"doubled_shape", doubled_shape, "shape with a value that is not"},
                      PartShape{"claimed_text", claimed_text, "is truncated"}),
    [](const auto& of) { return of.param.name; });

// Deep verification is bound by the checksum: at least 1 GB/s without sanitizers.
TEST(Crc32, IsFast) {
  const std::string bytes(std::size_t{1} << 26, 'x');
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    const auto began = std::chrono::steady_clock::now();
    const std::uint32_t sum = data::crc32(bytes.data(), bytes.size());
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    ASSERT_NE(sum, 0U);
  }
  const double rate = static_cast<double>(bytes.size()) / best;
  RecordProperty("megabytes_a_second", static_cast<int>(rate / 1e6));
  // The limit is a third of that, for shared machines.
  EXPECT_GE(rate * SHARDPLAN_SLOWED_BY, 0.3e9);
}

}  // namespace
}  // namespace shardplan::testing
