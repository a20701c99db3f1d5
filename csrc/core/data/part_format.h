#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/data/tensor_part.h"
#include "core/data/zip_part.h"

namespace shardplan::data {

/// The bytes of a part before and after the data of its tensor. All but a few depend on the
/// description of the tensor alone.
class PartEnds {
 public:
  /// Returns the ends of data that `head` precedes and nothing follows.
  static PartEnds plain(std::string head, std::uint64_t data_size);

  const std::string& head() const { return head_; }
  std::uint64_t data_size() const { return data_size_; }
  std::uint64_t size() const { return head_.size() + data_size_ + tail_.size(); }

  /// Appends the bytes after data whose CRC-32 is `crc`.
  void append_tail(std::uint32_t crc, std::string& out) const;

 private:
  friend class PartFormat;

  std::string head_;
  std::string tail_;  // as for data whose CRC-32 is 0
  std::uint64_t data_size_ = 0;
  bool checksums_ = true;
  // Offsets in `tail_`: where the checksum of the data is, the text of the serialization id, and
  // where the checksum of that text is.
  std::vector<std::size_t> crc_at_;
  std::size_t id_at_ = 0;
  std::vector<std::size_t> id_crc_at_;
  // The members before and after the data, as the serialization id combines them.
  std::uint64_t combined_before_ = 0;
  std::vector<std::uint32_t> crcs_after_;
  std::string id_prefix_;
};

/// How torch.save lays out the part of a tensor: the members besides the tensor's, their order and
/// their alignment. It is read from a part that the installed torch wrote with the same options.
class PartFormat {
 public:
  /// Reads the format from the part of a tensor. Returns nothing if `make_ends` would write other
  /// bytes than this part has.
  static std::optional<PartFormat> of_sample(const PartBytes& bytes, std::uint64_t length);

  /// Returns whether parts have the checksums of their members.
  bool checksums() const { return checksums_; }

  /// Returns the ends of a tensor's part. Returns nothing if native code does not know the dtype.
  ///
  /// tensor: as in `pickle_of_tensor`
  std::optional<PartEnds> make_ends(const StoredTensor& tensor) const;

 private:
  enum class Content : std::uint8_t { kConstant, kPickle, kData, kId };

  struct Member {
    std::string name;
    Content content = Content::kConstant;
    std::string text;  // of a constant
  };

  std::vector<Member> members_;
  std::uint64_t alignment_ = 64;  // torch's, unless a member has another one
  bool checksums_ = true;
  std::string id_prefix_;  // hash of the names of the members, which is in the serialization id
};

}  // namespace shardplan::data
