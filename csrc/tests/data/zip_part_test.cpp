#include "core/data/zip_part.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

std::string why(const std::string& bytes) {
  try {
    const data::ZipPart part(part_of(bytes), bytes.size());
  } catch (const data::BadPart& problem) {
    return problem.what();
  }
  return "nothing wrong";
}

const std::vector<ZippedMember> kTwo{{"archive/data.pkl", "abc"}, {"archive/data/0", "defgh"}};

std::string changed(void (*change)(std::vector<ZippedMember>&, ZippedEnd&)) {
  std::vector<ZippedMember> members = kTwo;
  ZippedEnd end;
  change(members, end);
  return why(zipped(members, end));
}

void expect_members(const std::string& bytes, const std::vector<ZippedMember>& expected) {
  for (const std::size_t at_once : {1, 7, 1 << 20}) {
    const data::PartBytes source = part_of(bytes, at_once);
    const data::ZipPart part(source, bytes.size());
    ASSERT_EQ(part.members().size(), expected.size());
    EXPECT_EQ(part.root(), "archive");
    for (std::size_t at = 0; at < expected.size(); ++at) {
      const data::ZipMember& member = part.members()[at];
      EXPECT_EQ(member.name, expected[at].name);
      EXPECT_EQ(bytes.substr(member.begin, member.size), expected[at].data);
      EXPECT_EQ(data::checksum_of(source, member), member.crc);
      EXPECT_EQ(part.find(member.name.substr(8)), &member);
    }
    EXPECT_EQ(part.find("data/1"), nullptr);
    EXPECT_EQ(part.find(""), nullptr);
  }
}

TEST(ZipPart, ReadsMembers) {
  expect_members(zipped(kTwo), kTwo);
}

TEST(ZipPart, Zip32AndZip64WithSizesInEitherRecord) {
  for (const bool wide_end : {false, true}) {
    for (const bool wide : {false, true}) {
      for (const bool sizes_follow : {false, true}) {
        std::vector<ZippedMember> members = kTwo;
        for (ZippedMember& one : members) {
          one.wide = wide;
          one.sizes_follow = sizes_follow;
          one.padded = wide_end;
          if (!sizes_follow) one.flags = 0;
        }
        expect_members(zipped(members, {.wide = wide_end}), members);
      }
    }
  }
}

TEST(ZipPart, MayHaveNoChecksums) {
  std::string bytes = zipped(kTwo);
  EXPECT_TRUE(data::ZipPart(part_of(bytes), bytes.size()).has_checksums());
  for (std::size_t at = bytes.find("PK\x01\x02"); at != std::string::npos;
       at = bytes.find("PK\x01\x02", at + 1)) {
    bytes.replace(at + 16, 4, 4, '\0');
  }
  EXPECT_FALSE(data::ZipPart(part_of(bytes), bytes.size()).has_checksums());
}

TEST(ZipPart, MoreMembersThanFit16Bits) {
  std::vector<ZippedMember> members;
  for (int at = 0; at < 70'000; ++at) members.push_back({"archive/" + std::to_string(at), ""});
  const std::string bytes = zipped(members);
  const data::ZipPart part(part_of(bytes), bytes.size());
  EXPECT_EQ(part.members().size(), 70'000U);
  EXPECT_EQ(part.find("69999"), &part.members()[69'999]);
}

TEST(ZipPart, DirectoryInAnotherOrder) {
  const std::string bytes = zipped(kTwo, {.wide = false});
  const std::size_t first = bytes.find("PK\x01\x02");
  const std::size_t second = bytes.find("PK\x01\x02", first + 1);
  const std::size_t end = bytes.find("PK\x05\x06");
  const std::string turned = bytes.substr(0, first) + bytes.substr(second, end - second) +
                             bytes.substr(first, second - first) + bytes.substr(end);
  expect_members(turned, kTwo);
}

TEST(ZipPart, DamagedPartsAreRejected) {
  using Members = std::vector<ZippedMember>;
  EXPECT_NE(changed([](Members& all, ZippedEnd&) {
              all[1].name = all[1].central_name = "archive/data.pkl";
            }).find("two members named archive/data.pkl"),
            std::string::npos);
  // torch's reader ignores case.
  EXPECT_NE(changed([](Members& all, ZippedEnd&) {
              all[1].name = all[1].central_name = "Archive/DATA.pkl";
            }).find("two members named"),
            std::string::npos);
  EXPECT_NE(changed([](Members& all, ZippedEnd&) {
              all[1].central_name = "archive/data/1";
            }).find("member archive/data/1 with two different names"),
            std::string::npos);
  EXPECT_NE(
      changed([](Members& all, ZippedEnd&) { all[1].moved = 1; }).find("no local record of member"),
      std::string::npos);
  EXPECT_NE(changed([](Members& all, ZippedEnd&) { all[1].attributes = 0x10; }).find("a folder"),
            std::string::npos);
  EXPECT_NE(changed([](Members& all, ZippedEnd&) { all[1].disk = 1; }).find("on disk 1"),
            std::string::npos);
  EXPECT_NE(changed([](Members& all, ZippedEnd&) {
              all[0].more_size = 40;
            }).find("archive/data.pkl, which overlaps the next record"),
            std::string::npos);
  EXPECT_NE(changed([](Members& all, ZippedEnd&) {
              all[1].more_size = 10'000;
            }).find("10,005 bytes from byte 71, which is not before the directory"),
            std::string::npos);
  EXPECT_NE(changed([](Members& all, ZippedEnd&) {
              all[1].wide = true;
              all[1].more_size = UINT64_MAX - 5;
            }).find("bytes from byte 71, which"),
            std::string::npos);
  EXPECT_NE(
      changed([](Members&, ZippedEnd& end) { end.members = 1; }).find("too short for 3 members"),
      std::string::npos);
  EXPECT_NE(changed([](Members&, ZippedEnd& end) {
              end.members = -1;
            }).find("bytes after its last directory record"),
            std::string::npos);
  EXPECT_NE(
      changed([](Members&, ZippedEnd& end) { end.members = INT64_MAX; }).find("too short for"),
      std::string::npos);
  EXPECT_NE(
      changed([](Members&, ZippedEnd& end) { end.size = 1; }).find("not end at its end record"),
      std::string::npos);
  EXPECT_NE(
      changed([](Members&, ZippedEnd& end) { end.moved = -1; }).find("not end at its end record"),
      std::string::npos);
  EXPECT_NE(changed([](Members&, ZippedEnd& end) { end.comment = "x"; }).find("with a comment"),
            std::string::npos);
}

TEST(ZipPart, OtherFormatsAreUnsupported) {
  const auto left = [](void (*change)(std::vector<ZippedMember>&)) {
    std::vector<ZippedMember> members = kTwo;
    change(members);
    const std::string bytes = zipped(members);
    EXPECT_THROW(data::ZipPart(part_of(bytes), bytes.size()), data::UnreadPart);
  };
  left([](std::vector<ZippedMember>& all) { all[1].method = 8; });
  left([](std::vector<ZippedMember>& all) { all[1].flags |= 1; });
  left([](std::vector<ZippedMember>& all) { all[0].name = all[0].central_name = "data.pkl"; });
  const std::string legacy =
      "\x80\x02\x8a\x0al\xfc\x9c"
      "F\xf9 j\xa8P\x19.";
  EXPECT_THROW(data::ZipPart(part_of(legacy), legacy.size()), data::UnreadPart);
}

TEST(ZipPart, OverlappingMembersAreRejectedBeforeTheyAreRead) {
  const std::size_t times = 60'000;
  const std::string one = zipped({{"archive/data.pkl", std::string(1 << 16, 'x')}});
  const std::size_t begin = one.find("PK\x01\x02");
  const std::string record = one.substr(begin, one.find("PK\x06\x06") - begin);
  std::string bytes = one.substr(0, begin);
  for (std::size_t at = 0; at < times; ++at) {
    std::string named = record;
    const std::string digits = std::to_string(1'000'000 + at);
    named.replace(46, digits.size(), digits);
    bytes += named;
  }
  const std::size_t size = bytes.size() - begin;
  const std::size_t end_at = bytes.size();
  bytes += "PK\x06\x06" + little_endian(44, 8) + little_endian(0, 4) + little_endian(0, 8) +
           little_endian(times, 8) + little_endian(times, 8) + little_endian(size, 8) +
           little_endian(begin, 8) + "PK\x06\x07" + little_endian(0, 4) + little_endian(end_at, 8) +
           little_endian(1, 4) + "PK\x05\x06" + little_endian(0, 4) + little_endian(0xFFFF, 2) +
           little_endian(0xFFFF, 2) + little_endian(0xFFFFFFFF, 4) + little_endian(begin, 4) +
           little_endian(0, 2);
  std::size_t read = 0;
  const data::PartBytes source = part_of(bytes);
  try {
    const data::ZipPart part(
        [&](std::uint64_t offset, char* into, std::size_t count) {
          const std::size_t given = source(offset, into, count);
          read += given;
          return given;
        },
        bytes.size());
    ADD_FAILURE();
  } catch (const data::BadPart& problem) {
    EXPECT_NE(std::string(problem.what()).find("overlaps"), std::string::npos) << problem.what();
  }
  EXPECT_LE(read, bytes.size() - begin + 200);
}

TEST(ZipPart, EveryTruncationIsRejected) {
  const std::string bytes = zipped(kTwo);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::string cut = bytes.substr(0, length);
    EXPECT_NE(why(cut), "nothing wrong") << length;
    // The file is shorter than the given length.
    EXPECT_THROW(data::ZipPart(part_of(cut), bytes.size()), data::BadPart) << length;
  }
}

}  // namespace
}  // namespace shardplan::testing
