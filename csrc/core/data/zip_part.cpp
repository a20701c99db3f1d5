#include "core/data/zip_part.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "core/data/crc32.h"
#include "core/pickle/input.h"
#include "core/util/text.h"

namespace shardplan::data {
namespace {

constexpr std::string_view kLocalSign = "PK\x03\x04";
constexpr std::string_view kCentralSign = "PK\x01\x02";
constexpr std::string_view kEndSign = "PK\x05\x06";
constexpr std::string_view kEnd64Sign = "PK\x06\x06";
constexpr std::string_view kLocatorSign = "PK\x06\x07";
constexpr std::size_t kLocal = 30;
constexpr std::size_t kCentral = 46;
constexpr std::size_t kEnd = 22;
constexpr std::size_t kEnd64 = 56;
constexpr std::size_t kLocator = 20;

// In a field that is too narrow: the number is in a zip64 record.
constexpr std::uint64_t kIn64Of16 = 0xFFFF;
constexpr std::uint64_t kIn64Of32 = 0xFFFFFFFF;

constexpr std::uint64_t kSizesFollow = 0x0008;
constexpr std::uint64_t kEncrypted = 0x0001 | 0x0040 | 0x2000;
constexpr std::uint64_t kPatched = 0x0020;
// Among the external attributes. torch reads nothing of a member that has it.
constexpr std::uint64_t kIsFolder = 0x10;

[[noreturn]] void fail(const std::string& what, std::uint64_t at) {
  throw BadPart(what + ", at byte " + std::to_string(at));
}
[[noreturn]] void leave(const std::string& what, std::uint64_t at) {
  throw UnreadPart(what + ", at byte " + std::to_string(at));
}

/// The number in `count` bytes of a record, the least first.
std::uint64_t number_at(std::string_view record, std::size_t at, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    value |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(record[at + i])) << (8 * i);
  }
  return value;
}

template <std::size_t kCount>
std::string_view view_of(const std::array<char, kCount>& record) {
  return {record.data(), kCount};
}

/// Where the directory lies, and how many members it says it has.
struct Directory {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  std::uint64_t members = 0;

  std::uint64_t end() const { return begin + size; }
};

/// The records at the end of a part. Each has one place it can be at: torch.save writes no comment.
Directory directory_of(const PartBytes& bytes, std::uint64_t length) {
  if (length < kEnd) fail("ends too early for a zip", length);
  const std::uint64_t end_at = length - kEnd;
  std::array<char, kEnd> end{};
  read_part_bytes(bytes, end_at, end.data(), kEnd);
  const std::string_view last = view_of(end);
  if (!last.starts_with(kEndSign)) {
    fail("does not end with the end of a zip's directory, as what is cut or has a comment", end_at);
  }
  if (number_at(last, 4, 2) != 0 || number_at(last, 6, 2) != 0 || number_at(last, 20, 2) != 0) {
    fail("has the end of a directory of several disks, or a comment", end_at);
  }
  Directory found{number_at(last, 16, 4), number_at(last, 12, 4), number_at(last, 10, 2)};
  if (number_at(last, 8, 2) != found.members) fail("has two numbers of members", end_at);

  std::uint64_t directory_end = end_at;
  std::array<char, kLocator> located{};
  if (end_at >= kLocator) read_part_bytes(bytes, end_at - kLocator, located.data(), kLocator);
  const std::string_view locator = view_of(located);
  if (end_at >= kLocator && locator.starts_with(kLocatorSign)) {
    const std::uint64_t locator_at = end_at - kLocator;
    if (locator_at < kEnd64) fail("ends too early for a zip of 64 bits", locator_at);
    const std::uint64_t at = locator_at - kEnd64;
    if (number_at(locator, 4, 4) != 0 || number_at(locator, 8, 8) != at ||
        number_at(locator, 16, 4) != 1) {
      fail("says that the end of its directory is elsewhere, or on several disks", locator_at);
    }
    std::array<char, kEnd64> wide{};
    read_part_bytes(bytes, at, wide.data(), kEnd64);
    const std::string_view record = view_of(wide);
    if (!record.starts_with(kEnd64Sign) || number_at(record, 4, 8) != kEnd64 - 12 ||
        number_at(record, 16, 4) != 0 || number_at(record, 20, 4) != 0 ||
        number_at(record, 24, 8) != number_at(record, 32, 8)) {
      fail("has a broken end of its directory", at);
    }
    const Directory full{number_at(record, 48, 8), number_at(record, 40, 8),
                         number_at(record, 32, 8)};
    const auto agree = [](std::uint64_t narrow, std::uint64_t whole, std::uint64_t in_64) {
      return narrow == whole || narrow == in_64;
    };
    if (!agree(found.members, full.members, kIn64Of16) ||
        !agree(found.size, full.size, kIn64Of32) || !agree(found.begin, full.begin, kIn64Of32)) {
      fail("has two ends of its directory that differ", end_at);
    }
    found = full;
    directory_end = at;
  }
  if (found.begin > directory_end || found.size != directory_end - found.begin) {
    fail("has a directory of " + util::grouped(found.size) + " bytes from byte " +
             util::grouped(found.begin) + " on, which does not lead to its end",
         directory_end);
  }
  if (found.members > found.size / kCentral) {
    fail("has a directory of " + util::grouped(found.size) + " bytes that cannot be of " +
             util::grouped(found.members) + " members",
         found.begin);
  }
  if (found.members == 0) fail("has no member", found.begin);
  // Numbers of members take 32 bits.
  if (found.members > kIn64Of32) leave("has more than 2^32 members", found.begin);
  return found;
}

/// The bytes of the directory, one after another.
class DirectoryInput {
 public:
  DirectoryInput(const PartBytes& bytes, const Directory& directory)
      : bytes_(bytes),
        next_(directory.begin),
        unread_(directory.size),
        window_(static_cast<std::size_t>(std::min<std::uint64_t>(directory.size, kWindow))) {}

  std::uint64_t position() const { return next_ - (end_ - at_); }

  /// Valid until the next call. A record takes at most 46 bytes, its texts three times 2^16.
  std::string_view take(std::size_t count) {
    if (count > end_ - at_) fill(count);
    at_ += count;
    return {window_.data() + at_ - count, count};
  }

 private:
  static constexpr std::size_t kWindow = std::size_t{1} << 18;

  void fill(std::size_t count) {
    if (count - (end_ - at_) > unread_) fail("has a record that its directory cuts", position());
    std::copy(window_.data() + at_, window_.data() + end_, window_.data());
    end_ -= at_;
    at_ = 0;
    const auto more =
        static_cast<std::size_t>(std::min<std::uint64_t>(unread_, window_.size() - end_));
    read_part_bytes(bytes_, next_, window_.data() + end_, more);
    end_ += more;
    next_ += more;
    unread_ -= more;
  }

  const PartBytes& bytes_;
  std::uint64_t next_;    // byte of the part
  std::uint64_t unread_;  // bytes of the directory
  std::vector<char> window_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
};

/// What a local record repeats of a central one.
struct Repeated {
  std::uint64_t flags = 0;
  std::uint64_t method = 0;
};

/// Takes sizes and an offset that do not fit 32 bits from the extra field of zip64.
void widen(std::string_view extra, std::uint64_t& size, std::uint64_t& packed,
           std::uint64_t& header, std::uint64_t at) {
  if (size != kIn64Of32 && packed != kIn64Of32 && header != kIn64Of32) return;
  while (extra.size() >= 4) {
    const std::uint64_t kind = number_at(extra, 0, 2);
    const auto length = static_cast<std::size_t>(number_at(extra, 2, 2));
    extra.remove_prefix(4);
    if (length > extra.size()) fail("has an extra field that its record cuts", at);
    if (kind != 1) {
      extra.remove_prefix(length);
      continue;
    }
    std::string_view wide = extra.substr(0, length);
    for (std::uint64_t* field : {&size, &packed, &header}) {
      if (*field != kIn64Of32) continue;
      if (wide.size() < 8) fail("has a zip64 field that is too short", at);
      *field = number_at(wide, 0, 8);
      wide.remove_prefix(8);
    }
    return;
  }
  fail("has a member without the zip64 field that it needs", at);
}

ZipMember member_from(DirectoryInput& in, std::uint64_t directory, Repeated& repeated) {
  const std::uint64_t at = in.position();
  const std::string_view record = in.take(kCentral);
  if (!record.starts_with(kCentralSign)) fail("has a directory with a broken record", at);
  repeated = {number_at(record, 8, 2), number_at(record, 10, 2)};
  std::uint64_t packed = number_at(record, 20, 4);
  std::uint64_t size = number_at(record, 24, 4);
  std::uint64_t header = number_at(record, 42, 4);
  const std::uint64_t crc = number_at(record, 16, 4);
  const auto name = static_cast<std::size_t>(number_at(record, 28, 2));
  const auto extra = static_cast<std::size_t>(number_at(record, 30, 2));
  const auto comment = static_cast<std::size_t>(number_at(record, 32, 2));
  const std::uint64_t disk = number_at(record, 34, 2);
  const std::uint64_t attributes = number_at(record, 38, 4);
  if (disk != 0) fail("has a member on disk " + std::to_string(disk), at);
  if ((attributes & kIsFolder) != 0) fail("has a member that is a folder", at);
  if ((repeated.flags & (kEncrypted | kPatched)) != 0) leave("has a member that is encrypted", at);
  if (repeated.method != 0) leave("has a member that is compressed", at);

  const std::string_view texts = in.take(name + extra + comment);
  ZipMember member{std::string(texts.substr(0, name)), 0, 0, 0, static_cast<std::uint32_t>(crc)};
  widen(texts.substr(name, extra), size, packed, header, at);
  if (size != packed) {
    fail("has two sizes of " + util::printable(member.name) + ", which is not compressed", at);
  }
  if (header > directory || directory - header < kLocal + name ||
      size > directory - header - kLocal - name) {
    fail("has " + util::printable(member.name) + " of " + util::grouped(size) +
             " bytes from byte " + util::grouped(header) + " on, which is not before its directory",
         at);
  }
  member.header = header;
  member.size = size;
  return member;
}

/// Finds where a member's data begin. Its bytes up to `end` are its own.
void read_local(const PartBytes& bytes, ZipMember& member, Repeated repeated, std::uint64_t end,
                std::vector<char>& buffer) {
  buffer.resize(kLocal + member.name.size());
  read_part_bytes(bytes, member.header, buffer.data(), buffer.size());
  const std::string_view record{buffer.data(), buffer.size()};
  const auto differs = [&](const char* what) {
    fail("has two " + std::string(what) + " of " + util::printable(member.name), member.header);
  };
  if (!record.starts_with(kLocalSign)) {
    fail("has no member where " + util::printable(member.name) + " should begin", member.header);
  }
  if (number_at(record, 6, 2) != repeated.flags) differs("kinds");
  if (number_at(record, 8, 2) != repeated.method) differs("methods");
  if (number_at(record, 26, 2) != member.name.size() || record.substr(kLocal) != member.name) {
    differs("names");
  }
  const bool follow = (repeated.flags & kSizesFollow) != 0;
  const std::uint64_t crc = number_at(record, 14, 4);
  if (crc != member.crc && !(follow && crc == 0)) differs("checksums");
  for (const std::size_t at : {std::size_t{18}, std::size_t{22}}) {
    const std::uint64_t size = number_at(record, at, 4);
    if (size != member.size && size != kIn64Of32 && !(follow && size == 0)) differs("sizes");
  }
  member.begin = member.header + buffer.size() + number_at(record, 28, 2);
  if (member.begin > end || member.size > end - member.begin) {
    fail("has " + util::printable(member.name) + ", which shares bytes with what comes next",
         member.header);
  }
}

/// As torch's reader compares names: it does not tell A from a.
bool comes_before(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::lexicographical_compare(a, b, {}, lower, lower);
}

}  // namespace

void read_part_bytes(const PartBytes& bytes, std::uint64_t offset, char* into, std::size_t count) {
  while (count > 0) {
    const std::size_t got = bytes(offset, into, count);
    if (got == 0 || got > count) fail("ends too early", offset);
    offset += got;
    into += got;
    count -= got;
  }
}

std::uint32_t checksum_of(const PartBytes& bytes, const ZipMember& member) {
  constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;
  std::vector<char> block(static_cast<std::size_t>(std::min(kBlock, member.size)));
  std::uint32_t sum = 0;
  for (std::uint64_t done = 0; done < member.size; done += block.size()) {
    block.resize(static_cast<std::size_t>(std::min(kBlock, member.size - done)));
    read_part_bytes(bytes, member.begin + done, block.data(), block.size());
    sum = crc32(block.data(), block.size(), sum);
  }
  return sum;
}

ZipPart::ZipPart(const PartBytes& bytes, std::uint64_t length) : length_(length) {
  std::array<char, 4> head{};
  if (length < head.size()) fail("ends too early for a zip", length);
  read_part_bytes(bytes, 0, head.data(), head.size());
  if (view_of(head) != kLocalSign) leave("is no zip, which torch.save writes", 0);
  const Directory directory = directory_of(bytes, length);

  DirectoryInput in(bytes, directory);
  std::vector<ZipMember> found;
  std::vector<Repeated> repeated;
  // No room is made for as many as it claims: they come as their records do.
  while (found.size() < directory.members) {
    found.push_back(member_from(in, directory.begin, repeated.emplace_back()));
  }
  if (in.position() != directory.end()) {
    fail("has a directory with bytes that are no record", in.position());
  }
  const std::string_view first = found.front().name;
  const std::size_t slash = first.find('/');
  if (slash == std::string_view::npos) {
    leave("has a first member outside a folder, " + util::printable(first), directory.begin);
  }
  root_ = std::string(first.substr(0, slash));

  std::vector<std::uint32_t> order(found.size());
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  std::ranges::sort(order, {}, [&](std::uint32_t at) { return found[at].header; });
  const auto end_of = [&](std::size_t at) {
    return at + 1 < order.size() ? found[order[at + 1]].header : directory.begin;
  };
  // Before a local record is read: those that many members share would be read for each.
  for (std::size_t at = 0; at < order.size(); ++at) {
    const ZipMember& member = found[order[at]];
    if (end_of(at) - member.header < kLocal + member.name.size() + member.size) {
      fail("has " + util::printable(member.name) + ", which shares bytes with what comes next",
           member.header);
    }
  }
  std::vector<char> buffer;
  members_.reserve(found.size());
  for (std::size_t at = 0; at < order.size(); ++at) {
    read_local(bytes, found[order[at]], repeated[order[at]], end_of(at), buffer);
    members_.push_back(std::move(found[order[at]]));
  }

  by_name_.resize(members_.size());
  std::iota(by_name_.begin(), by_name_.end(), std::uint32_t{0});
  const auto name = [&](std::uint32_t at) -> std::string_view { return members_[at].name; };
  std::ranges::sort(by_name_, comes_before, name);
  const auto twice = std::ranges::adjacent_find(
      by_name_, [](std::string_view a, std::string_view b) { return !comes_before(a, b); }, name);
  if (twice != by_name_.end()) {
    fail("has two members of the name " + util::printable(members_[*twice].name),
         members_[*twice].header);
  }
}

bool ZipPart::has_checksums() const {
  return std::ranges::any_of(members_, [](const ZipMember& member) { return member.crc != 0; });
}

const ZipMember* ZipPart::find(std::string_view name) const {
  const std::string whole = root_ + "/" + std::string(name);
  const auto of = [&](std::uint32_t at) -> std::string_view { return members_[at].name; };
  const auto found = std::ranges::lower_bound(by_name_, std::string_view(whole), comes_before, of);
  return found != by_name_.end() && members_[*found].name == whole ? &members_[*found] : nullptr;
}

}  // namespace shardplan::data
