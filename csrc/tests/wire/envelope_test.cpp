#include "core/wire/envelope.h"

#include <gtest/gtest.h>

#include "core/wire/bytes.h"
#include "random_plans.h"

namespace shardplan::testing {
namespace {

constexpr std::string_view kRelease = "1.2.3";
constexpr std::size_t kVersionAt = 4;  // after the magic
constexpr std::size_t kReleaseAt = 6;

std::string sealed(std::string_view table, std::string_view rows, std::size_t items = 1) {
  return wire::seal(wire::WireKind::kSavePlan, kRelease, {items, table, rows});
}

wire::Envelope opened(std::string_view bytes) {
  return wire::open(wire::WireKind::kSavePlan, kRelease, bytes);
}

std::string why(wire::WireKind kind, std::string_view release, std::string_view bytes) {
  try {
    wire::open(kind, release, bytes);
  } catch (const wire::BadWire& error) {
    return error.what();
  }
  return "";
}

/// Sealed envelope of a random plan.
std::string random_sealed(Random& random) {
  const wire::NamedTable table = random_table(random);
  const OwnedPlan plan = random_plan(table.table, random);
  const columns::SavePlanView view = plan.view(table.table);
  return sealed(wire::write_table(table).value(), wire::write_rows(view), view.size());
}

TEST(Envelope, RoundTrip) {
  Random random(51);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const std::string table = random_bytes(random.one_in(5) ? 40000 : 300, random);
    const std::string rows = random_bytes(random.one_in(5) ? 40000 : 300, random);
    const std::size_t items = random.index(table.size() + rows.size() + 1);
    const wire::WireKind kind =
        random.one_in(2) ? wire::WireKind::kSavePlan : wire::WireKind::kLoadPlan;
    const std::string release = random_bytes(255, random);
    const std::string bytes = wire::seal(kind, release, {items, table, rows});
    const wire::Envelope found =
        wire::open(kind, kRelease, bytes);  // another release, the same wire version
    EXPECT_EQ(found.items, items);
    EXPECT_EQ(found.table, table);
    EXPECT_EQ(found.rows, rows);
  }
}

TEST(Envelope, EmptyContents) {
  const std::string bytes = wire::seal(wire::WireKind::kLoadPlan, "", {});
  const wire::Envelope found = wire::open(wire::WireKind::kLoadPlan, "", bytes);
  EXPECT_EQ(found.items, 0u);
  EXPECT_TRUE(found.table.empty() && found.rows.empty());
}

TEST(Envelope, LongReleaseIsTruncated) {
  const std::string bytes =
      wire::seal(wire::WireKind::kSavePlan, std::string(1000, 'r'), {1, "t", "r"});
  EXPECT_EQ(opened(bytes).table, "t");
}

TEST(Envelope, EveryTruncationIsRejected) {
  Random random(52);
  for (int round = 0; round < 50; ++round) {
    const std::string bytes = random_sealed(random);
    ASSERT_NO_THROW(opened(bytes));
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      ASSERT_THROW(opened(std::string(bytes, 0, length)), wire::BadWire) << length;
    }
  }
}

TEST(Envelope, EveryFlippedBitIsRejected) {
  Random random(53);
  for (int round = 0; round < 20; ++round) {
    std::string bytes = random_sealed(random);
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      char& byte = bytes[bit / 8];
      byte = static_cast<char>(byte ^ (1 << bit % 8));
      ASSERT_THROW(opened(bytes), wire::BadWire) << "bit " << bit;
      byte = static_cast<char>(byte ^ (1 << bit % 8));
    }
    ASSERT_NO_THROW(opened(bytes));
  }
}

TEST(Envelope, EveryExtensionIsRejected) {
  Random random(54);
  for (int round = 0; round < 50; ++round) {
    const std::string bytes = random_sealed(random);
    for (const char byte : {'\0', '\x01', '\xFF'}) {
      EXPECT_THROW(opened(bytes + byte), wire::BadWire);
      EXPECT_THROW(opened(bytes + std::string(8, byte)), wire::BadWire);
      EXPECT_THROW(opened(byte + bytes), wire::BadWire);
    }
    EXPECT_THROW(opened(bytes + bytes), wire::BadWire);
    for (std::size_t at = 0; at <= bytes.size(); ++at) {
      std::string longer = bytes;
      longer.insert(at, 1, random.one_in(2) ? '\0' : static_cast<char>(random.index(256)));
      ASSERT_THROW(opened(longer), wire::BadWire) << at;
    }
  }
}

TEST(Envelope, BytesMovedFromOnePartToTheOther) {
  const std::string bytes = sealed("abc", "def");
  std::string moved = bytes;
  const std::size_t lengths = kReleaseAt + kRelease.size() + 2;
  ASSERT_EQ(moved.substr(lengths, 2), "\x03\x03");
  moved[lengths] = 2;
  moved[lengths + 1] = 4;
  EXPECT_THROW(opened(moved), wire::BadWire);
}

TEST(Envelope, RandomBytesAreRejected) {
  Random random(55);
  const std::string start = sealed("", "").substr(0, kReleaseAt + kRelease.size());
  for (int round = 0; round < 2000; ++round) {
    EXPECT_THROW(opened(random_bytes(60, random)), wire::BadWire);
    EXPECT_THROW(opened(start + random_bytes(60, random)), wire::BadWire);
  }
}

TEST(Envelope, MoreItemsThanBytes) {
  const std::string bytes = sealed("abc", "def", 7);
  EXPECT_EQ(opened(sealed("abc", "def", bytes.size())).items, bytes.size());
  EXPECT_THROW(opened(sealed("abc", "def", bytes.size() + 1)), wire::BadWire);
  EXPECT_THROW(opened(sealed("abc", "def", SIZE_MAX)), wire::BadWire);
}

TEST(Envelope, OtherKindsAndOtherBytesAreRejected) {
  const std::string bytes = sealed("abc", "def");
  EXPECT_NE(why(wire::WireKind::kLoadPlan, kRelease, bytes).find("has message kind 1 instead of 2"),
            std::string::npos);
  for (const std::string_view other : {"", "\x93SP", "\x80\x04\x95 a pickle", "\x93SPM\x01"}) {
    EXPECT_NE(why(wire::WireKind::kSavePlan, kRelease, other).find("is not a shardplan message"),
              std::string::npos);
  }
}

TEST(Envelope, AnotherWireVersionNamesBothReleases) {
  std::string bytes = wire::seal(wire::WireKind::kSavePlan, "9.8.7rc1", {2, "abc", "def"});
  ASSERT_EQ(bytes[kVersionAt], wire::kWireVersion);
  for (const int version : {0, wire::kWireVersion + 1, 255}) {
    bytes[kVersionAt] = static_cast<char>(version);
    // The error does not depend on the kind or on bytes after the release, whose format may differ.
    for (const std::string& rest :
         {bytes.substr(kReleaseAt + 8), std::string(), std::string("?")}) {
      const std::string message =
          why(wire::WireKind::kLoadPlan, kRelease, bytes.substr(0, kReleaseAt + 8) + rest);
      EXPECT_EQ(message, "was written by shardplan 9.8.7rc1 (wire version " +
                             std::to_string(version) +
                             ") and is read by shardplan 1.2.3 (wire version " +
                             std::to_string(wire::kWireVersion) +
                             "): install the same shardplan on every rank");
    }
  }
  // Truncated within the release.
  EXPECT_NE(why(wire::WireKind::kSavePlan, kRelease, bytes.substr(0, kReleaseAt + 7))
                .find("is truncated"),
            std::string::npos);
}

}  // namespace
}  // namespace shardplan::testing
