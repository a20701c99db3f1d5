#include "core/wire/bytes.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "core/util/hash.h"
#include "random_plans.h"

namespace shardplan::testing {
namespace {

std::string varint_bytes(std::uint64_t value) {
  wire::ByteWriter out;
  out.varint(value);
  return out.take();
}

std::uint64_t read_varint(std::string_view bytes) {
  wire::ByteReader in(bytes);
  const std::uint64_t value = in.varint();
  EXPECT_EQ(in.left(), 0u);
  return value;
}

TEST(Zigzag, NumbersNearZeroAreSmall) {
  EXPECT_EQ(wire::zigzag(0), 0u);
  EXPECT_EQ(wire::zigzag(-1), 1u);
  EXPECT_EQ(wire::zigzag(1), 2u);
  EXPECT_EQ(wire::zigzag(-64), 127u);
  EXPECT_EQ(wire::zigzag(INT64_MAX), UINT64_MAX - 1);
  EXPECT_EQ(wire::zigzag(INT64_MIN), UINT64_MAX);
}

TEST(ByteWriter, VarintHasSevenBitsPerByte) {
  for (std::size_t bits = 0; bits < 64; ++bits) {
    const std::uint64_t value = UINT64_C(1) << bits;
    EXPECT_EQ(varint_bytes(value).size(), bits / 7 + 1);
    EXPECT_EQ(read_varint(varint_bytes(value)), value);
    EXPECT_EQ(read_varint(varint_bytes(value - 1)), value - 1);
    EXPECT_EQ(read_varint(varint_bytes(~value)), ~value);
  }
  EXPECT_EQ(varint_bytes(300), "\xAC\x02");
  EXPECT_EQ(read_varint(varint_bytes(UINT64_MAX)), UINT64_MAX);
}

TEST(ByteReader, ReadsWhatWasWritten) {
  Random random(41);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const std::int64_t number = random_number(random);
    const auto fixed = static_cast<std::uint64_t>(random_number(random));
    const std::string text = random_bytes(300, random);
    wire::ByteWriter out;
    out.number(number);
    out.string(text);
    out.fixed64(fixed);
    out.raw(text);
    out.byte(0xFE);
    EXPECT_EQ(out.size(), out.bytes().size());
    const std::string bytes = out.take();
    wire::ByteReader in(bytes);
    EXPECT_EQ(in.number(), number);
    EXPECT_EQ(in.string(), text);
    EXPECT_EQ(in.fixed64(), fixed);
    EXPECT_EQ(in.raw(text.size()), text);
    EXPECT_EQ(in.left(), 1u);
    EXPECT_EQ(in.byte(), 0xFE);
    EXPECT_EQ(in.left(), 0u);
  }
}

TEST(ByteReader, PastTheEnd) {
  wire::ByteReader none({});
  EXPECT_THROW(none.byte(), wire::BadWire);
  EXPECT_THROW(none.varint(), wire::BadWire);
  EXPECT_THROW(none.raw(1), wire::BadWire);
  EXPECT_EQ(none.raw(0), "");
  EXPECT_THROW(wire::ByteReader("1234567").fixed64(), wire::BadWire);
  EXPECT_THROW(wire::ByteReader("12").raw(3), wire::BadWire);
  EXPECT_THROW(wire::ByteReader("12").raw(SIZE_MAX), wire::BadWire);
  EXPECT_THROW(wire::ByteReader("\x03 12").raw(5), wire::BadWire);
  EXPECT_THROW(wire::ByteReader("\x03"
                                "12")
                   .string(),
               wire::BadWire);
  EXPECT_EQ(wire::ByteReader("\x03"
                             "123")
                .string(),
            "123");
  for (std::size_t length = 1; length < 10; ++length) {
    EXPECT_THROW(wire::ByteReader(std::string(length, '\x80')).varint(), wire::BadWire);
  }
}

TEST(ByteReader, NumbersBeyond64Bits) {
  const std::string nine(9, '\xFF');
  EXPECT_EQ(read_varint(nine + "\x01"), UINT64_MAX);
  EXPECT_THROW(read_varint(nine + "\x02"), wire::BadWire);
  EXPECT_THROW(read_varint(nine + "\x7F"), wire::BadWire);
  EXPECT_THROW(read_varint(nine + "\x81"), wire::BadWire);
  EXPECT_THROW(read_varint(std::string(20, '\xFF')), wire::BadWire);
  EXPECT_EQ(read_varint(std::string(9, '\x80') + std::string(1, '\0')), 0u);
}

TEST(ByteReader, CountsAndIndicesAreChecked) {
  EXPECT_EQ(wire::ByteReader("\x02..").count(), 2u);
  EXPECT_THROW(wire::ByteReader("\x03..").count(), wire::BadWire);
  EXPECT_THROW(wire::ByteReader(varint_bytes(UINT64_MAX) + "..").count(), wire::BadWire);
  EXPECT_EQ(wire::ByteReader("\x02").index(3), 2u);
  EXPECT_THROW(wire::ByteReader("\x03").index(3), wire::BadWire);
  EXPECT_THROW(wire::ByteReader(std::string_view("\0", 1)).index(0), wire::BadWire);
  EXPECT_THROW(wire::ByteReader(varint_bytes((UINT64_C(1) << 32) + 1)).index(3), wire::BadWire);
}

TEST(BadWire, ReportsTheByte) {
  wire::ByteReader in("\x01 abc");
  in.raw(2);
  try {
    in.raw(4);
    FAIL() << "read past the end";
  } catch (const wire::BadWire& error) {
    EXPECT_STREQ(error.what(), "is truncated: it needs 4 more bytes and has 3, at byte 2 of 5");
  }
}

TEST(Fingerprint, DependsOnEveryBitAndTheLength) {
  Random random(42);
  for (const std::size_t length : {0U, 1U, 7U, 8U, 9U, 31U, 40U}) {
    std::string bytes(length, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.index(256));
    std::set<std::uint64_t> seen{util::fingerprint(bytes)};
    for (std::size_t bit = 0; bit < 8 * length; ++bit) {
      std::string other = bytes;
      other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << bit % 8));
      seen.insert(util::fingerprint(other));
    }
    for (std::size_t more = 1; more < 20; ++more) {
      seen.insert(util::fingerprint(bytes + std::string(more, '\0')));
    }
    EXPECT_EQ(seen.size(), 1 + 8 * length + 19);
    EXPECT_EQ(util::fingerprint(bytes), util::fingerprint(std::string(bytes)));
  }
}

TEST(Fingerprint, DependsOnTheSeed) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) seen.insert(util::fingerprint("abc", seed));
  EXPECT_EQ(seen.size(), 1000u);
}

}  // namespace
}  // namespace shardplan::testing
