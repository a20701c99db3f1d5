// Adversarial pickles. Each is built with 1, 10 and 100 times as many parts. Memory and time to
// read it must be linear in its size, whether it is read or rejected.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/inspect/checkpoint.h"
#include "core/metadata/metadata_reader.h"
#include "counted_allocations.h"
#include "pickle/parts.h"
#include "pickle/shapes.h"

namespace shardplan::testing {
namespace {

constexpr std::size_t kUnit = 500;
// Limits on allocations, including freed ones: bytes per byte read, plus a constant.
constexpr std::size_t kMaxAByte = 400;
constexpr std::size_t kMaxAnyway = std::size_t{48} << 20;

struct Cost {
  std::size_t bytes = 0;
  std::size_t allocated = 0;
  double seconds = 0;
  std::string problem;
};

/// Measures reading a file for both purposes.
Cost cost_of(const std::string& file) {
  Cost cost;
  cost.bytes = file.size();
  const std::size_t before = allocated_bytes();
  const auto began = std::chrono::steady_clock::now();
  try {
    pickle::Pickle pickle = pickle::read_pickle(source_of(file));
    const auto texts = std::make_shared<const util::TextTable>(std::move(pickle.values.texts));
    metadata::read_pickled_metadata(pickle, texts, metadata::Purpose::kObjects);
    const inspect::Checkpoint checkpoint(source_of(file));
    checkpoint.remarks();
    checkpoint.parts_of_locations();
  } catch (const pickle::BadPickle& problem) {
    cost.problem = problem.what();
  }
  cost.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  cost.allocated = allocated_bytes() - before;
  return cost;
}

class PickleOfScale : public ::testing::TestWithParam<PickleShape> {};

TEST_P(PickleOfScale, CostIsLinearInItsSize) {
  const PickleShape& shape = GetParam();
  std::vector<Cost> costs;
  for (const std::size_t scale : {1, 10, 100}) {
    costs.push_back(cost_of(shape.of(scale * kUnit)));
    const Cost& cost = costs.back();
    EXPECT_LE(cost.allocated, kMaxAnyway + kMaxAByte * cost.bytes)
        << scale << ": " << cost.bytes << " bytes, " << cost.allocated << " allocated";
  }
  const double most = 2 + 4e-6 * static_cast<double>(costs[2].bytes);
  EXPECT_LE(costs[2].seconds, SHARDPLAN_SLOWED_BY * most);
  // Ten times the parts may take forty times as long; quadratic time would take a hundred times.
  const double grown = static_cast<double>(costs[2].bytes) / static_cast<double>(costs[1].bytes);
  EXPECT_LE(costs[2].seconds, 4 * grown * std::max(costs[1].seconds, 0.005));
  const std::string_view expected = shape.problem;
  if (expected.empty()) {
    EXPECT_EQ(costs[2].problem, "");
  } else {
    EXPECT_NE(costs[2].problem.find(expected), std::string::npos) << costs[2].problem;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, PickleOfScale,
                         ::testing::ValuesIn(pickle_shapes().begin(), pickle_shapes().end()),
                         [](const auto& of) { return of.param.name; });

}  // namespace
}  // namespace shardplan::testing
