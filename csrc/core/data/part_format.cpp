#include "core/data/part_format.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

#include "core/data/crc32.h"
#include "core/data/tensor_pickle.h"
#include "core/util/little_endian.h"

namespace shardplan::data {
namespace {

constexpr std::uint64_t kMax32 = 0xFFFFFFFF;
constexpr std::uint32_t kLocalHeader = 0x04034B50;
constexpr std::uint32_t kDescriptor = 0x08074B50;
constexpr std::uint32_t kCentralHeader = 0x02014B50;
constexpr std::uint32_t kEnd64 = 0x06064B50;
constexpr std::uint32_t kEnd64Locator = 0x07064B50;
constexpr std::uint32_t kEnd = 0x06054B50;
/// Flags: names are UTF-8; a descriptor follows the data.
constexpr std::uint64_t kUtf8 = 0x0800;
constexpr std::uint64_t kHasDescriptor = 0x0008;
constexpr std::size_t kIdDigits = 20;
constexpr std::size_t kMaxConstant = 64;

/// Appends numbers, each with its size in bytes.
void append(std::string& out, std::initializer_list<std::pair<std::uint64_t, std::size_t>> fields) {
  for (const auto& [value, bytes] : fields) util::append_little_endian(out, value, bytes);
}

void set(std::string& out, std::size_t at, std::uint32_t value) {
  for (std::size_t byte = 0; byte < 4; ++byte) {
    out[at + byte] = static_cast<char>(value >> (8 * byte));
  }
}

/// torch's way to combine hashes.
std::uint64_t combine(std::uint64_t seed, std::uint64_t value) {
  return seed ^ (value + 0x9E3779B9 + (seed << 6) + (seed >> 2));
}

/// Returns a number with 20 digits.
std::string digits(std::uint64_t number) {
  const std::string text = std::to_string(number);
  return std::string(kIdDigits - text.size(), '0') + text;
}

/// A member whose header has been written.
struct Written {
  std::uint64_t begin = 0;  // of its header in the part
  std::uint64_t size = 0;
  std::uint32_t crc = 0;
  std::string_view name;

  /// An empty member has no descriptor.
  std::uint64_t flags() const { return kUtf8 | (size != 0 ? kHasDescriptor : 0); }
  bool is_large() const { return size >= kMax32; }
  bool is_far() const { return begin >= kMax32; }
};

/// Appends the extra field for numbers that do not fit 32 bits; nothing if all fit.
///
/// stored_size: 0 before the data of the member, where torch does not know it yet
void append_zip64(std::string& out, const Written& member, std::uint64_t stored_size) {
  if (!member.is_large() && !member.is_far()) return;
  const std::uint64_t bytes = (member.is_large() ? 16U : 0U) + (member.is_far() ? 8U : 0U);
  append(out, {{1, 2}, {bytes, 2}});
  if (member.is_large()) append(out, {{member.size, 8}, {stored_size, 8}});
  if (member.is_far()) util::append_little_endian(out, member.begin, 8);
}

/// Appends a header, and an extra field that aligns the data after it.
void append_local_header(std::string& out, const Written& member, std::uint64_t alignment) {
  std::string extra;
  append_zip64(extra, member, 0);
  const std::uint64_t data = member.begin + 30 + member.name.size() + extra.size() + 4;
  const std::uint64_t padding = (alignment - data % alignment) % alignment;
  append(extra, {{'F', 1}, {'B', 1}, {padding, 2}});
  extra.append(static_cast<std::size_t>(padding), 'Z');
  append(out, {{kLocalHeader, 4}, {0, 2}, {member.flags(), 2}, {0, 2}, {0, 4}});
  append(out, {{0, 4}, {0, 4}, {0, 4}});  // checksum and sizes follow the data
  append(out, {{member.name.size(), 2}, {extra.size(), 2}});
  out.append(member.name).append(extra);
}

/// Appends what follows the data of a member that is not empty. Returns where the checksum is.
std::size_t append_descriptor(std::string& out, const Written& member) {
  const std::size_t bytes = member.is_large() || member.is_far() ? 8 : 4;
  append(out, {{kDescriptor, 4}, {member.crc, 4}, {member.size, bytes}, {member.size, bytes}});
  return out.size() - 2 * bytes - 4;
}

/// Appends an entry of the directory. Returns where the checksum is.
std::size_t append_central_header(std::string& out, const Written& member) {
  std::string extra;
  append_zip64(extra, member, member.size);
  const std::uint64_t size = std::min(member.size, kMax32);
  append(out, {{kCentralHeader, 4}, {0, 2}, {0, 2}, {member.flags(), 2}, {0, 2}, {0, 4}});
  util::append_little_endian(out, member.crc, 4);
  const std::size_t crc_at = out.size() - 4;
  append(out, {{size, 4}, {size, 4}, {member.name.size(), 2}, {extra.size(), 2}, {0, 2}, {0, 2}});
  append(out, {{0, 2}, {0, 4}, {std::min(member.begin, kMax32), 4}});
  out.append(member.name).append(extra);
  return crc_at;
}

/// Appends the end of a directory that begins at a byte.
void append_end(std::string& out, std::uint64_t members, std::uint64_t begin, std::uint64_t size) {
  append(out, {{kEnd64, 4}, {44, 8}, {0x031E, 2}, {45, 2}, {0, 4}, {0, 4}, {members, 8}});
  append(out, {{members, 8}, {size, 8}, {begin, 8}});
  append(out, {{kEnd64Locator, 4}, {0, 4}, {begin + size, 8}, {1, 4}});
  append(out, {{kEnd, 4}, {0, 2}, {0, 2}, {members, 2}, {members, 2}});
  append(out, {{std::min(size, kMax32), 4}, {std::min(begin, kMax32), 4}, {0, 2}});
}

std::uint32_t checksum(std::string_view text) {
  return crc32(text.data(), text.size());
}

}  // namespace

void PartEnds::append_tail(std::uint32_t crc, std::string& out) const {
  const std::size_t begin = out.size();
  out.append(tail_);
  if (!checksums_ || data_size_ == 0) return;  // the tail is the same for all data
  std::uint64_t combined = combine(combined_before_, crc);
  for (const std::uint32_t after : crcs_after_) combined = combine(combined, after);
  const std::string id = id_prefix_ + digits(combined);
  out.replace(begin + id_at_, id.size(), id);
  for (const std::size_t at : crc_at_) set(out, begin + at, crc);
  for (const std::size_t at : id_crc_at_) set(out, begin + at, checksum(id));
}

std::optional<PartEnds> PartFormat::make_ends(const StoredTensor& tensor) const {
  const std::string pickle = pickle_of_tensor(tensor);
  if (pickle.empty()) return std::nullopt;
  PartEnds ends;
  ends.checksums_ = checksums_;
  ends.data_size_ = tensor.storage_size;
  ends.id_prefix_ = id_prefix_;
  std::vector<Written> written;
  std::string* out = &ends.head_;
  std::uint64_t before = 0;  // bytes of the part before `out`
  std::uint64_t combined = 0;
  for (const Member& member : members_) {
    Written added{before + out->size(), 0, 0, member.name};
    std::string_view text = member.text;
    std::string id;
    if (member.content == Content::kPickle) text = pickle;
    if (member.content == Content::kId) text = id = id_prefix_ + digits(combined);
    added.size = member.content == Content::kData ? tensor.storage_size : text.size();
    added.crc = checksums_ ? checksum(text) : 0;
    append_local_header(*out, added, alignment_);
    if (member.content == Content::kData) {
      before += out->size() + tensor.storage_size;
      out = &ends.tail_;
      ends.combined_before_ = combined;
      if (added.size != 0) ends.crc_at_.push_back(append_descriptor(*out, added));
    } else {
      if (member.content == Content::kId) ends.id_at_ = out->size();
      out->append(text);
      const std::size_t crc_at = added.size != 0 ? append_descriptor(*out, added) : 0;
      if (member.content == Content::kId) ends.id_crc_at_.push_back(crc_at);
      if (out == &ends.tail_ && member.content != Content::kId && added.size != 0) {
        ends.crcs_after_.push_back(added.crc);
      }
    }
    // torch does not count an empty member.
    if (added.size != 0) {
      combined = combine(combined, added.crc);
    }
    written.push_back(added);
  }
  const std::uint64_t directory = before + out->size();
  for (std::size_t at = 0; at < written.size(); ++at) {
    const std::size_t crc_at = append_central_header(*out, written[at]);
    if (members_[at].content == Content::kData) ends.crc_at_.push_back(crc_at);
    if (members_[at].content == Content::kId) ends.id_crc_at_.push_back(crc_at);
  }
  append_end(*out, written.size(), directory, before + out->size() - directory);
  return ends;
}

PartEnds PartEnds::plain(std::string head, std::uint64_t data_size) {
  PartEnds ends;
  ends.head_ = std::move(head);
  ends.data_size_ = data_size;
  ends.checksums_ = false;
  return ends;
}

std::optional<PartFormat> PartFormat::of_sample(const PartBytes& bytes, std::uint64_t length) {
  PartFormat format;
  StoredTensor tensor;
  std::string data;
  std::string whole(static_cast<std::size_t>(length), '\0');
  try {
    read_part_bytes(bytes, 0, whole.data(), whole.size());
    const ZipPart zip(bytes, length);
    tensor = read_tensor_part(bytes, zip);
    format.checksums_ = zip.has_checksums();
    const std::string root = zip.root() + "/";
    for (const ZipMember& member : zip.members()) {
      Member made{member.name, Content::kConstant, {}};
      const std::string_view text =
          std::string_view(whole).substr(member.begin, static_cast<std::size_t>(member.size));
      if (member.name == root + "data.pkl") {
        made.content = Content::kPickle;
      } else if (member.name == root + "data/0") {
        made.content = Content::kData;
        data = text;
      } else if (member.name == root + ".data/serialization_id") {
        made.content = Content::kId;
        format.id_prefix_ = text.substr(0, kIdDigits);
      } else if (member.size > kMaxConstant) {
        return std::nullopt;
      } else {
        made.text = text;
      }
      if (member.name == root + ".storage_alignment") {
        const char* const end = made.text.data() + made.text.size();
        if (std::from_chars(made.text.data(), end, format.alignment_).ptr != end) {
          return std::nullopt;
        }
      }
      format.members_.push_back(std::move(made));
    }
  } catch (const BadPart&) {
    return std::nullopt;
  }
  constexpr std::uint64_t kMaxAlignment = 1 << 15;  // the padding has a size of 16 bits
  if (format.alignment_ == 0 || format.alignment_ > kMaxAlignment) return std::nullopt;
  const auto ends = format.make_ends(tensor);
  if (!ends) return std::nullopt;
  std::string made = ends->head() + data;
  ends->append_tail(format.checksums_ ? checksum(data) : 0, made);
  if (made != whole) return std::nullopt;
  return format;
}

}  // namespace shardplan::data
