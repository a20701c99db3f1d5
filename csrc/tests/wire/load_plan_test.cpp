#include "core/wire/load_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/wire/bytes.h"
#include "core/wire/names.h"
#include "random_plans.h"

namespace shardplan::testing {
namespace {

using std::string_literals::operator""s;

void expect_same(const columns::ReadColumns& found, const columns::ReadColumns& expected) {
  EXPECT_EQ(found.kind, expected.kind);
  EXPECT_EQ(found.name, expected.name);
  EXPECT_EQ(found.wanted, expected.wanted);
  EXPECT_EQ(found.saved, expected.saved);
  EXPECT_EQ(found.ndim, expected.ndim);
  EXPECT_EQ(found.first, expected.first);
  EXPECT_EQ(found.numbers, expected.numbers);
}

void expect_round_trip(const wire::NamedReads& reads) {
  const std::string names = wire::write_read_names(reads.names).value();
  const std::string rows = wire::write_reads(reads.rows).value();
  ASSERT_FALSE(names.empty());
  ASSERT_FALSE(rows.empty());
  const wire::NamedReads found = wire::read_reads(names, rows, reads.rows.size());
  EXPECT_EQ(found.names, reads.names);
  expect_same(found.rows, reads.rows);
}

/// A read of a 1-d tensor, whose number `column` (0 to 3) is 5, then a read of bytes.
wire::NamedReads small_reads(std::size_t column) {
  wire::NamedReads reads;
  reads.names = {"a", "b"};
  std::int64_t* numbers = reads.rows.push(columns::ReadKind::kTensor, 0, 1, 300, 1);
  numbers[4] = 7;
  if (column < 4) numbers[column] = 5;
  reads.rows.push(columns::ReadKind::kBytes, 1);
  return reads;
}

TEST(WireReads, RandomRoundTrips) {
  Random random(81);
  std::size_t tensors = 0;
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE(round);
    const wire::NamedReads reads = random_reads(random);
    expect_round_trip(reads);
    tensors +=
        static_cast<std::size_t>(std::ranges::count(reads.rows.kind, columns::ReadKind::kTensor));
  }
  EXPECT_GT(tensors, 2000u);
}

TEST(WireReads, NoRowsAndNoNames) {
  expect_round_trip({});
}

TEST(WireReads, EverySingleNonzeroNumberIsEncoded) {
  for (std::size_t column = 0; column < 5; ++column) expect_round_trip(small_reads(column));
}

TEST(WireReads, ObjectRowsAreNumberedInOrder) {
  wire::NamedReads reads;
  reads.names = {"a", "b"};
  reads.rows.push(columns::ReadKind::kObject, 0);
  reads.rows.push(columns::ReadKind::kBytes, 1);
  reads.rows.push(columns::ReadKind::kObject, 1);
  reads.rows.push(columns::ReadKind::kBytes, 1);
  reads.rows.push(columns::ReadKind::kObject, 2);
  reads.rows.push(columns::ReadKind::kBytes, 0);
  expect_round_trip(reads);
  reads.names.clear();
  reads.rows.truncate(1);
  expect_round_trip(reads);
}

TEST(WireReads, UnsupportedPlansAreNotEncoded) {
  EXPECT_FALSE(wire::write_read_names({"a", std::string(wire::kLongestName + 1, 'x')}));
  columns::ReadColumns rows;
  rows.push(columns::ReadKind::kTensor, 0, 0, 0, 64);
  EXPECT_TRUE(wire::write_reads(rows));
  rows.push(columns::ReadKind::kTensor, 0, 0, 0, 65);
  EXPECT_FALSE(wire::write_reads(rows));
}

TEST(WireReads, WrongCountsAreRejected) {
  const wire::NamedReads reads = small_reads(0);
  const std::string names = wire::write_read_names(reads.names).value();
  const std::string rows = wire::write_reads(reads.rows).value();
  EXPECT_NO_THROW(wire::read_reads(names, rows, 2));
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{3}, SIZE_MAX}) {
    EXPECT_THROW(wire::read_reads(names, rows, count), wire::BadWire);
    std::string other = rows;
    other[0] = static_cast<char>(count & 0x7F);
    EXPECT_THROW(wire::read_reads(names, other, count), wire::BadWire);
  }
  EXPECT_THROW(wire::read_reads(names, rows + '\0', 2), wire::BadWire);
  EXPECT_THROW(wire::read_reads(names + '\0', rows, 2), wire::BadWire);
}

TEST(WireReads, BadRowsAreRejected) {
  const std::string names = wire::write_read_names({"a", "b"}).value();
  const auto accepted = [&names](const std::string& row) {
    EXPECT_NO_THROW(wire::read_reads(names, "\1" + row, 1)) << ::testing::PrintToString(row);
  };
  const auto refused = [&names](const std::string& row) {
    EXPECT_THROW(wire::read_reads(names, "\1" + row, 1), wire::BadWire)
        << ::testing::PrintToString(row);
  };
  accepted("\0"s);                    // bytes, same name
  accepted("\1"s);                    // bytes, next name
  accepted("\2\1"s);                  // bytes, name 1
  refused("\2\2"s);                   // name 2 of 2
  refused("\3"s);                     // invalid step
  refused("\7\0\0\0\0"s);             // invalid step
  refused("\x0C\0\0\0\0"s);           // invalid kind
  refused("\xFC\0\0\0\0"s);           // invalid kind
  accepted("\4\0\0\0\0"s);            // a 0-d tensor
  refused("\4\0\0\0"s);               // truncated
  accepted("\4\0\0\1\0\2"s);          // a length of 1
  refused("\4\0\0\1\1\2"s);           // five numbers expected
  accepted("\4\0\0\1\1\0\0\0\0\2"s);  // five numbers
  refused("\4\0\0\x41\0"s + std::string(65, '\0'));
  accepted("\4\0\0\x40\0"s + std::string(64, '\0'));
  refused("\4"s + std::string(10, '\xFF') + "\1\0\0\0"s);  // number beyond 64 bits
  // Steps past the last name.
  EXPECT_THROW(wire::read_reads(names, "\2\1\1"s, 2), wire::BadWire);
  EXPECT_THROW(wire::read_reads(wire::write_read_names({}).value(), "\1\0"s, 1), wire::BadWire);
}

// Other releases read these bytes. If they change, kWireVersion must be raised.
TEST(WireReads, BytesOfThisWireVersion) {
  EXPECT_EQ(wire::write_read_names({"a", "b"}).value(), "\2\1a\1b\2\1\0\1\1\0\0"s);
  EXPECT_EQ(wire::write_reads(small_reads(4).rows).value(), "\2\4\1\xAC\2\1\0\x0E\1"s);
  EXPECT_EQ(wire::write_reads(small_reads(3).rows).value(), "\2\4\1\xAC\2\1\1\0\0\0\x0A\x0E\1"s);
}

}  // namespace
}  // namespace shardplan::testing
