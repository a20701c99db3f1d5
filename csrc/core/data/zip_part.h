#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace shardplan::data {

/// Thrown for a damaged part. The message is a predicate without a subject ("has ...", "is ..."),
/// so that callers can name the subject. It usually ends with the byte offset in the part.
class BadPart : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Thrown for a part that may be valid but is not a plain tensor in the zip format of torch.save.
/// Upstream's code may be able to read it.
class UnreadPart : public BadPart {
 public:
  using BadPart::BadPart;
};

/// Reads at most `count` bytes of a part from `offset` on. Returns their number; 0 only at the end.
using PartBytes = std::function<std::size_t(std::uint64_t offset, char* into, std::size_t count)>;

/// Member of the zip file.
struct ZipMember {
  std::string name;
  std::uint64_t header = 0;  // byte offset of its local record in the part
  std::uint64_t begin = 0;   // byte offset of its data in the part
  std::uint64_t size = 0;    // size of its data in bytes
  std::uint32_t crc = 0;     // recorded CRC-32 of its data
};

/// Directory of a part that torch.save wrote as a zip file. The members are disjoint and sorted by
/// byte offset.
class ZipPart {
 public:
  /// Reads the directory of a part of `length` bytes. Throws BadPart if torch's reader would reject
  /// the part or could read it in two ways, and UnreadPart if torch.save does not write such parts.
  ///
  /// Memory and time are linear in the size of the directory; lengths and counts that it claims
  /// are not trusted. Does not read the data of members.
  ZipPart(const PartBytes& bytes, std::uint64_t length);

  const std::vector<ZipMember>& members() const { return members_; }
  std::uint64_t length() const { return length_; }

  /// Returns the top-level folder, i.e. the name of the first member in the directory up to its
  /// first slash. torch reads only members of this folder.
  const std::string& root() const { return root_; }

  /// Returns false if no member has a checksum, as with
  /// torch.serialization.set_crc32_options(False).
  bool has_checksums() const;

  /// Returns the member `root()/name`, or null. The pointer is valid as long as this object.
  const ZipMember* find(std::string_view name) const;

 private:
  std::vector<ZipMember> members_;
  std::vector<std::uint32_t> by_name_;
  std::string root_;
  std::uint64_t length_ = 0;
};

/// Reads exactly `count` bytes of a part from `offset` on. Throws BadPart if the part ends earlier.
void read_part_bytes(const PartBytes& bytes, std::uint64_t offset, char* into, std::size_t count);

/// Returns the CRC-32 of a member's data. Reads the data once, in blocks of 1 MiB.
std::uint32_t checksum_of(const PartBytes& bytes, const ZipMember& member);

}  // namespace shardplan::data
