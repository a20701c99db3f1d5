#include "core/wire/save_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "random_plans.h"

namespace shardplan::testing {
namespace {

Numbers numbers_at(const columns::SavePlanView& view, std::size_t position) {
  const std::int64_t* numbers = view.numbers(position);
  return {numbers, numbers + 2 * view.ndim(position)};
}

/// Checks that two tables are equal up to the numbering of specs.
void expect_same(const wire::NamedTable& found, const wire::NamedTable& expected) {
  EXPECT_EQ(found.names.names, expected.names.names);
  EXPECT_EQ(found.names.shapes, expected.names.shapes);
  EXPECT_EQ(found.names.shape_of_name, expected.names.shape_of_name);
  EXPECT_EQ(found.properties, expected.properties);
  EXPECT_EQ(found.table.name, expected.table.name);
  ASSERT_EQ(found.table.spec.size(), expected.table.spec.size());
  for (std::size_t entry = 0; entry < expected.table.size(); ++entry) {
    SCOPED_TRACE(entry);
    const std::uint32_t a = found.table.spec[entry];
    const std::uint32_t b = expected.table.spec[entry];
    EXPECT_EQ(found.table.specs.kind[a], expected.table.specs.kind[b]);
    EXPECT_EQ(found.table.specs.properties[a], expected.table.specs.properties[b]);
    EXPECT_TRUE(std::ranges::equal(found.table.specs.shape(a), expected.table.specs.shape(b)));
  }
}

void expect_same_rows(const wire::ReceivedRows& received, const columns::SaveTable& table,
                      const columns::SavePlanView& expected) {
  ASSERT_EQ(received.rows.size(), expected.size());
  if (expected.chunk_indices == nullptr) {
    EXPECT_TRUE(received.chunk_indices.empty());
  } else {
    EXPECT_EQ(received.chunk_indices, *expected.chunk_indices);
  }
  const columns::SavePlanView found{&table, &received.rows};
  for (std::size_t at = 0; at < expected.size(); ++at) {
    SCOPED_TRACE(at);
    EXPECT_EQ(found.entry(at), expected.entry(at));
    EXPECT_EQ(numbers_at(found, at), numbers_at(expected, at));
  }
}

/// Table of two sharded tensors and bytes.
wire::NamedTable small_table() {
  wire::NamedTable table;
  table.names = {
      {"model.a", "model.b", "step"}, {{{1, false}, {1, false}}, {{1, false}}}, {0, 0, 1}};
  table.properties = {"f32"};
  table.table.specs.push(columns::WriteKind::kShard, 0, Numbers{8, 4});
  table.table.specs.push(columns::WriteKind::kBytes, 0, {});
  table.table.name = {0, 1, 2};
  table.table.spec = {0, 0, 1};
  return table;
}

columns::SaveRows small_rows() {
  columns::SaveRows rows;
  std::ranges::copy(Numbers{4, 0, 4, 4}, rows.push(0, 2));
  std::ranges::copy(Numbers{0, 0, 8, 4}, rows.push(1, 2));
  rows.push(2, 0);
  return rows;
}

TEST(WireTable, RandomRoundTrips) {
  Random random(71);
  for (int round = 0; round < 2000; ++round) {
    SCOPED_TRACE(round);
    const wire::NamedTable table = random_table(random);
    const std::string bytes = wire::write_table(table).value();
    ASSERT_FALSE(bytes.empty());
    const wire::NamedTable found = wire::read_table(bytes);
    expect_same(found, table);
    EXPECT_EQ(wire::write_table(found).value(), bytes);
  }
}

TEST(WireTable, EmptyTable) {
  const wire::NamedTable found = wire::read_table(wire::write_table({}).value());
  EXPECT_EQ(found.table.size(), 0u);
  EXPECT_TRUE(found.names.names.empty() && found.properties.empty());
}

TEST(WireTable, EqualSpecsAreEncodedOnce) {
  wire::NamedTable table = small_table();
  for (int i = 0; i < 50; ++i) table.table.specs.push(columns::WriteKind::kShard, 0, Numbers{8, 4});
  table.table.spec = {40, 0, 1};
  const wire::NamedTable found = wire::read_table(wire::write_table(table).value());
  EXPECT_EQ(found.table.specs.size(), 2u);
  expect_same(found, table);
}

TEST(WireTable, UnsupportedPlansAreNotEncoded) {
  wire::NamedTable table = small_table();
  table.names.names[1] = std::string(wire::kLongestName + 1, 'x');
  EXPECT_FALSE(wire::write_table(table));
  table = small_table();
  table.table.specs.push(columns::WriteKind::kTensor, 0, Numbers(columns::kMaxDims, 1));
  EXPECT_TRUE(wire::write_table(table));
  table.table.specs.push(columns::WriteKind::kTensor, 0, Numbers(columns::kMaxDims + 1, 1));
  EXPECT_FALSE(wire::write_table(table));
}

TEST(WireTable, TooManyDimsAreRejected) {
  wire::NamedTable table;
  table.properties = {""};
  table.table.specs.push(columns::WriteKind::kTensor, 0, Numbers(columns::kMaxDims, 0));
  std::string bytes = wire::write_table(table).value();
  const std::size_t ndim = bytes.find(static_cast<char>(columns::kMaxDims));
  ASSERT_NE(ndim, std::string::npos);
  EXPECT_EQ(wire::read_table(bytes).table.specs.ndim[0], columns::kMaxDims);
  ++bytes[ndim];
  bytes.insert(ndim + 1, 1, '\0');  // size of the new dim
  EXPECT_THROW(wire::read_table(bytes), wire::BadWire);
}

TEST(WireTable, IndicesOutOfRangeAreRejected) {
  const auto refused = [](const auto& change) {
    wire::NamedTable table = small_table();
    change(table);
    EXPECT_THROW(wire::read_table(wire::write_table(table).value()), wire::BadWire);
  };
  refused([](wire::NamedTable& t) { t.table.name[1] = 3; });
  refused([](wire::NamedTable& t) { t.table.name[2] = 0xFFFFFFFF; });
  refused([](wire::NamedTable& t) { t.names.names.pop_back(), t.names.shape_of_name.pop_back(); });
  refused([](wire::NamedTable& t) { t.properties.clear(); });
  refused([](wire::NamedTable& t) { t.table.specs.properties[0] = 1; });
  EXPECT_THROW(wire::read_table(wire::write_table(small_table()).value() + '\0'), wire::BadWire);
}

TEST(WireRows, RandomRoundTrips) {
  Random random(72);
  int with_rows = 0;
  for (int round = 0; round < 4000; ++round) {
    SCOPED_TRACE(round);
    const wire::NamedTable table = random_table(random);
    const OwnedPlan plan = random_plan(table.table, random);
    const columns::SavePlanView view = plan.view(table.table);
    const std::string bytes = wire::write_rows(view);
    const wire::NamedTable received = wire::read_table(wire::write_table(table).value());
    expect_same_rows(wire::read_rows(bytes, view.size(), received.table), received.table, view);
    with_rows += view.size() > 2;
  }
  EXPECT_GT(with_rows, 1000);
}

TEST(WireRows, WholeTensorsInOrderHaveOneByteEach) {
  const wire::NamedTable table = small_table();
  columns::SaveRows rows;
  for (const std::uint32_t entry : {0U, 1U}) {
    std::ranges::copy(Numbers{0, 0, 8, 4}, rows.push(entry, 2));
  }
  rows.push(2, 0);
  const columns::SavePlanView view{&table.table, &rows};
  EXPECT_EQ(wire::write_rows(view).size(), 3u);  // flags, two boxes
}

TEST(WireRows, WrongCountsAreRejected) {
  const wire::NamedTable table = small_table();
  const columns::SaveRows rows = small_rows();
  const std::vector<std::uint32_t> chosen{0, 2};
  for (const auto* choice : {static_cast<const std::vector<std::uint32_t>*>(nullptr), &chosen}) {
    const columns::SavePlanView view{&table.table, &rows, choice};
    const std::string bytes = wire::write_rows(view);
    EXPECT_NO_THROW(wire::read_rows(bytes, view.size(), table.table));
    for (const std::size_t count :
         {std::size_t{0}, view.size() - 1, view.size() + 1, std::size_t{1} << 40, SIZE_MAX}) {
      EXPECT_THROW(wire::read_rows(bytes, count, table.table), wire::BadWire) << count;
    }
  }
}

TEST(WireRows, RowsOfAnotherTableAreRejected) {
  const wire::NamedTable table = small_table();
  const columns::SaveRows rows = small_rows();
  const std::vector<std::uint32_t> chosen{1, 2};
  const std::string bytes = wire::write_rows({&table.table, &rows, &chosen});
  columns::SaveTable other = table.table;
  other.name.pop_back();
  other.spec.pop_back();
  EXPECT_THROW(wire::read_rows(bytes, 2, other), wire::BadWire);
  EXPECT_THROW(wire::read_rows(bytes, 2, {}), wire::BadWire);
}

TEST(WireRows, BadFlagsEntriesBoxesAndChunkIndicesAreRejected) {
  const columns::SaveTable table = small_table().table;
  const auto refused = [&table](const std::string& bytes, std::size_t count) {
    EXPECT_THROW(wire::read_rows(bytes, count, table), wire::BadWire)
        << ::testing::PrintToString(bytes);
  };
  const auto bytes_of = [](std::uint8_t mark, const std::vector<std::int64_t>& numbers) {
    wire::ByteWriter out;
    out.byte(mark);
    for (const std::int64_t number : numbers) out.number(number);
    return out.take();
  };
  EXPECT_NO_THROW(wire::read_rows(bytes_of(0, {2, -1}), 2, table));  // entry 2 twice
  refused("", 0);
  refused("\x04", 0);
  refused("\xFF", 0);
  refused(bytes_of(0, {3}), 1);
  refused(bytes_of(0, {-1}), 1);
  refused(bytes_of(0, {INT64_MIN}), 1);
  refused(bytes_of(0, {INT64_MAX}), 1);
  refused(bytes_of(0, {2, INT64_MAX}), 2);
  refused(bytes_of(0, {2, INT64_MIN}), 2);
  EXPECT_NO_THROW(wire::read_rows(bytes_of(0, {0, 0}), 1, table));
  refused(bytes_of(0, {0, 2}), 1);  // a third dim
  EXPECT_NO_THROW(wire::read_rows(bytes_of(2, {0, 0, 5}), 1, table));
  EXPECT_NO_THROW(wire::read_rows(bytes_of(2, {0, 0, -1}), 1, table));
  refused(bytes_of(2, {0, 0, -2}), 1);
  refused(bytes_of(2, {0, 0, INT64_MAX, 0, 0, 1}), 2);
}

// Other releases read these bytes. If they change, kWireVersion must be raised.
TEST(WireSave, BytesOfThisWireVersion) {
  const wire::NamedTable table = small_table();
  const columns::SaveRows rows = small_rows();
  const std::vector<std::int64_t> chunk_indices{3, 1, columns::kNoChunkIndex};
  using std::string_literals::operator""s;
  EXPECT_EQ(wire::write_table(table).value(),
            "\4\5model\1a\1b\4step\3\2\0\1\x11\2\1\3"s  // parts, names
            "\2\2\2\2\1\2\3\0\0\1"s                     // paths
            "\1\3f32\2\2\0\2\x10\x08\0\3\0\0\2"s);      // properties, specs, entries
  EXPECT_EQ(wire::write_rows({&table.table, &rows, nullptr, &chunk_indices}),
            "\3\1\x08\x08\6\0\3"s);
}

}  // namespace
}  // namespace shardplan::testing
