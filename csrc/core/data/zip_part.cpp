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

// Value of a 16-bit or 32-bit field whose number is in a zip64 record.
constexpr std::uint64_t kIn64Of16 = 0xFFFF;
constexpr std::uint64_t kIn64Of32 = 0xFFFFFFFF;

constexpr std::uint64_t kSizesFollow = 0x0008;
constexpr std::uint64_t kEncrypted = 0x0001 | 0x0040 | 0x2000;
constexpr std::uint64_t kPatched = 0x0020;
// Bit of the external attributes. torch does not read members that have it.
constexpr std::uint64_t kIsFolder = 0x10;

[[noreturn]] void fail(const std::string& what, std::uint64_t at) {
  throw BadPart(what + ", at byte " + std::to_string(at));
}
[[noreturn]] void unsupported(const std::string& what, std::uint64_t at) {
  throw UnreadPart(what + ", at byte " + std::to_string(at));
}

/// Returns the little-endian number in `count` bytes of a record.
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

/// Location of the directory, and the number of members that the end records claim.
struct Directory {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  std::uint64_t members = 0;

  std::uint64_t end() const { return begin + size; }
};

/// Reads the end records of a part. torch.save writes no comment, so each has a fixed position.
Directory directory_of(const PartBytes& bytes, std::uint64_t length) {
  if (length < kEnd) fail("is too short for a zip file", length);
  const std::uint64_t end_at = length - kEnd;
  std::array<char, kEnd> end{};
  read_part_bytes(bytes, end_at, end.data(), kEnd);
  const std::string_view last = view_of(end);
  if (!last.starts_with(kEndSign)) {
    fail("has no zip end record in its last 22 bytes (truncated, or with a comment)", end_at);
  }
  if (number_at(last, 4, 2) != 0 || number_at(last, 6, 2) != 0 || number_at(last, 20, 2) != 0) {
    fail("has a zip end record of several disks, or with a comment", end_at);
  }
  Directory found{number_at(last, 16, 4), number_at(last, 12, 4), number_at(last, 10, 2)};
  if (const std::uint64_t here = number_at(last, 8, 2); here != found.members) {
    fail("has a zip end record of both " + std::to_string(here) + " and " +
             std::to_string(found.members) + " members",
         end_at);
  }

  std::uint64_t directory_end = end_at;
  std::array<char, kLocator> located{};
  if (end_at >= kLocator) read_part_bytes(bytes, end_at - kLocator, located.data(), kLocator);
  const std::string_view locator = view_of(located);
  if (end_at >= kLocator && locator.starts_with(kLocatorSign)) {
    const std::uint64_t locator_at = end_at - kLocator;
    if (locator_at < kEnd64) fail("is too short for a zip64 file", locator_at);
    const std::uint64_t at = locator_at - kEnd64;
    if (number_at(locator, 4, 4) != 0 || number_at(locator, 8, 8) != at ||
        number_at(locator, 16, 4) != 1) {
      fail("has a zip64 locator of another position, or of several disks", locator_at);
    }
    std::array<char, kEnd64> wide{};
    read_part_bytes(bytes, at, wide.data(), kEnd64);
    const std::string_view record = view_of(wide);
    if (!record.starts_with(kEnd64Sign) || number_at(record, 4, 8) != kEnd64 - 12 ||
        number_at(record, 16, 4) != 0 || number_at(record, 20, 4) != 0 ||
        number_at(record, 24, 8) != number_at(record, 32, 8)) {
      fail("has a broken zip64 end record", at);
    }
    const Directory full{number_at(record, 48, 8), number_at(record, 40, 8),
                         number_at(record, 32, 8)};
    const auto agree = [](std::uint64_t narrow, std::uint64_t whole, std::uint64_t in_64) {
      return narrow == whole || narrow == in_64;
    };
    if (!agree(found.members, full.members, kIn64Of16) ||
        !agree(found.size, full.size, kIn64Of32) || !agree(found.begin, full.begin, kIn64Of32)) {
      fail("has zip and zip64 end records that differ", end_at);
    }
    found = full;
    directory_end = at;
  }
  if (found.begin > directory_end || found.size != directory_end - found.begin) {
    fail("has a directory of " + util::grouped(found.size) + " bytes from byte " +
             util::grouped(found.begin) + ", which does not end at its end record",
         directory_end);
  }
  if (found.members > found.size / kCentral) {
    fail("has a directory of " + util::grouped(found.size) + " bytes, too short for " +
             util::grouped(found.members) + " members",
         found.begin);
  }
  if (found.members == 0) fail("has no members", found.begin);
  // Members are numbered with 32 bits.
  if (found.members > kIn64Of32) unsupported("has more than 2^32 members", found.begin);
  return found;
}

/// Buffered sequential reader of the directory.
class DirectoryInput {
 public:
  DirectoryInput(const PartBytes& bytes, const Directory& directory)
      : bytes_(bytes),
        next_(directory.begin),
        unread_(directory.size),
        window_(static_cast<std::size_t>(std::min<std::uint64_t>(directory.size, kWindow))) {}

  std::uint64_t position() const { return next_ - (end_ - at_); }

  /// Reads `count` bytes, at most kWindow. The result is valid until the next call.
  std::string_view take(std::size_t count) {
    if (count > end_ - at_) fill(count);
    at_ += count;
    return {window_.data() + at_ - count, count};
  }

 private:
  // Larger than a record: 46 bytes, then three strings of less than 2^16 bytes each.
  static constexpr std::size_t kWindow = std::size_t{1} << 18;

  void fill(std::size_t count) {
    if (count - (end_ - at_) > unread_) fail("has a truncated directory record", position());
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
  std::uint64_t next_;    // byte offset in the part of the next read
  std::uint64_t unread_;  // bytes of the directory not yet read
  std::vector<char> window_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
};

/// Fields of a directory record that the local record repeats, besides those in ZipMember.
struct Repeated {
  std::uint64_t flags = 0;
  std::uint64_t method = 0;
};

/// Replaces sizes and an offset that do not fit 32 bits by those of the zip64 extra field.
void widen(std::string_view extra, std::uint64_t& size, std::uint64_t& packed,
           std::uint64_t& header, std::uint64_t at) {
  if (size != kIn64Of32 && packed != kIn64Of32 && header != kIn64Of32) return;
  while (extra.size() >= 4) {
    const std::uint64_t kind = number_at(extra, 0, 2);
    const auto length = static_cast<std::size_t>(number_at(extra, 2, 2));
    extra.remove_prefix(4);
    if (length > extra.size()) fail("has a truncated extra field", at);
    if (kind != 1) {
      extra.remove_prefix(length);
      continue;
    }
    std::string_view wide = extra.substr(0, length);
    for (std::uint64_t* field : {&size, &packed, &header}) {
      if (*field != kIn64Of32) continue;
      if (wide.size() < 8) fail("has a truncated zip64 field", at);
      *field = number_at(wide, 0, 8);
      wide.remove_prefix(8);
    }
    return;
  }
  fail("has a member of 64-bit size without a zip64 field", at);
}

ZipMember member_from(DirectoryInput& in, std::uint64_t directory, Repeated& repeated) {
  const std::uint64_t at = in.position();
  const std::string_view record = in.take(kCentral);
  if (!record.starts_with(kCentralSign)) fail("has a broken directory record", at);
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
  if ((repeated.flags & (kEncrypted | kPatched)) != 0) {
    unsupported("has a member that is encrypted", at);
  }
  if (repeated.method != 0) unsupported("has a member that is compressed", at);

  const std::string_view texts = in.take(name + extra + comment);
  ZipMember member{std::string(texts.substr(0, name)), 0, 0, 0, static_cast<std::uint32_t>(crc)};
  widen(texts.substr(name, extra), size, packed, header, at);
  if (size != packed) {
    fail("has member " + util::printable(member.name) + " of both " + util::grouped(size) +
             " and " + util::grouped(packed) + " bytes, uncompressed",
         at);
  }
  if (header > directory || directory - header < kLocal + name ||
      size > directory - header - kLocal - name) {
    fail("has member " + util::printable(member.name) + " of " + util::grouped(size) +
             " bytes from byte " + util::grouped(header) + ", which is not before the directory",
         at);
  }
  member.header = header;
  member.size = size;
  return member;
}

/// Checks the local record of a member and sets `member.begin`. The next member begins at `end`.
void read_local(const PartBytes& bytes, ZipMember& member, Repeated repeated, std::uint64_t end,
                std::vector<char>& buffer) {
  buffer.resize(kLocal + member.name.size());
  read_part_bytes(bytes, member.header, buffer.data(), buffer.size());
  const std::string_view record{buffer.data(), buffer.size()};
  const auto differs = [&](const char* what) {
    fail("has member " + util::printable(member.name) + " with two different " + what,
         member.header);
  };
  if (!record.starts_with(kLocalSign)) {
    fail("has no local record of member " + util::printable(member.name), member.header);
  }
  if (number_at(record, 6, 2) != repeated.flags) differs("flags");
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
    fail("has member " + util::printable(member.name) + ", which overlaps the next record",
         member.header);
  }
}

/// Compares names as torch's reader does, ignoring the case of ASCII letters.
bool comes_before(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::lexicographical_compare(a, b, {}, lower, lower);
}

}  // namespace

void read_part_bytes(const PartBytes& bytes, std::uint64_t offset, char* into, std::size_t count) {
  while (count > 0) {
    const std::size_t got = bytes(offset, into, count);
    if (got == 0 || got > count) fail("is truncated", offset);
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
  if (length < head.size()) fail("is too short for a zip file", length);
  read_part_bytes(bytes, 0, head.data(), head.size());
  if (view_of(head) != kLocalSign) unsupported("is not a zip file of torch.save", 0);
  const Directory directory = directory_of(bytes, length);

  DirectoryInput in(bytes, directory);
  std::vector<ZipMember> found;
  std::vector<Repeated> repeated;
  // The number of members is not trusted, so no memory is reserved for it.
  while (found.size() < directory.members) {
    found.push_back(member_from(in, directory.begin, repeated.emplace_back()));
  }
  if (in.position() != directory.end()) {
    fail("has bytes after its last directory record", in.position());
  }
  const std::string_view first = found.front().name;
  const std::size_t slash = first.find('/');
  if (slash == std::string_view::npos) {
    unsupported("has first member " + util::printable(first) + ", which is not in a folder",
                directory.begin);
  }
  root_ = std::string(first.substr(0, slash));

  std::vector<std::uint32_t> order(found.size());
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  std::ranges::sort(order, {}, [&](std::uint32_t at) { return found[at].header; });
  const auto end_of = [&](std::size_t at) {
    return at + 1 < order.size() ? found[order[at + 1]].header : directory.begin;
  };
  // Check for overlaps before reading local records, so that no record is read more than once.
  for (std::size_t at = 0; at < order.size(); ++at) {
    const ZipMember& member = found[order[at]];
    if (end_of(at) - member.header < kLocal + member.name.size() + member.size) {
      fail("has member " + util::printable(member.name) + ", which overlaps the next record",
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
    fail("has two members named " + util::printable(members_[*twice].name),
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
