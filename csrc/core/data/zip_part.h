#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace shardplan::data {

/// A stored part that is damaged; says how, and at which byte of the part.
class BadPart : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A stored part that may be whole, but is not the zip of a plain tensor that torch.save writes:
/// what upstream's code alone can read, or nothing can.
class UnreadPart : public BadPart {
 public:
  using BadPart::BadPart;
};

/// Gives at most `count` bytes of a part, from `offset` on; 0 at its end alone.
using PartBytes = std::function<std::size_t(std::uint64_t offset, char* into, std::size_t count)>;

/// A file within a part.
struct ZipMember {
  std::string name;
  std::uint64_t header = 0;  // its first byte in the part
  std::uint64_t begin = 0;   // of its data
  std::uint64_t size = 0;
  std::uint32_t crc = 0;  // that its data should have
};

/// The directory of a part that torch.save wrote as a zip. Its members lie in `length` bytes one
/// after another, in the order of `members`, and no two of them share a byte.
class ZipPart {
 public:
  /// Reads the directory. Throws BadPart for what torch's reader refuses or could read in two ways,
  /// and UnreadPart for what torch.save does not write.
  ///
  /// Memory and time grow with the bytes of the directory, which are there in full, and with none
  /// of the lengths and counts that it claims. Data of members are not read.
  ZipPart(const PartBytes& bytes, std::uint64_t length);

  const std::vector<ZipMember>& members() const { return members_; }
  std::uint64_t length() const { return length_; }

  /// The name, up to its first slash, of the first member that the directory has: those that torch
  /// looks at begin with it.
  const std::string& root() const { return root_; }

  /// False where no member has a checksum: torch.serialization.set_crc32_options(False) leaves them
  /// out.
  bool has_checksums() const;

  /// The member of a name within the root, or none.
  const ZipMember* find(std::string_view name) const;

 private:
  std::vector<ZipMember> members_;
  std::vector<std::uint32_t> by_name_;
  std::string root_;
  std::uint64_t length_ = 0;
};

/// Reads a stretch of a part in full; throws BadPart where the part ends within it.
void read_part_bytes(const PartBytes& bytes, std::uint64_t offset, char* into, std::size_t count);

/// The checksum of a member's data, read once, in blocks of a megabyte.
std::uint32_t checksum_of(const PartBytes& bytes, const ZipMember& member);

}  // namespace shardplan::data
