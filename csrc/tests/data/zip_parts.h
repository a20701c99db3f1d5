#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/crc32.h"
#include "core/data/zip_part.h"
#include "pickle/parts.h"

// Builders of parts as torch.save writes them, and of broken ones.

namespace shardplan::testing {

inline data::PartBytes part_of(std::string_view bytes, std::size_t at_once = std::size_t{1} << 20) {
  return [bytes, at_once](std::uint64_t offset, char* into, std::size_t count) {
    if (offset >= bytes.size()) return std::size_t{0};
    const std::string_view left = bytes.substr(static_cast<std::size_t>(offset));
    const std::size_t given = std::min({left.size(), count, at_once});
    std::memcpy(into, left.data(), given);
    return given;
  };
}

/// Member of a zip file. Fields can be set to inconsistent values.
struct ZippedMember {
  std::string name;
  std::string data;
  std::uint64_t flags = 0x0808;
  std::uint64_t method = 0;
  std::uint64_t disk = 0;
  std::uint64_t attributes = 0;
  std::string central_name = name;
  bool sizes_follow = true;  // the data descriptor has the sizes, as with torch.save
  bool wide = false;         // sizes and offset are in the zip64 extra field
  bool padded = true;
  std::uint64_t more_size = 0;
  std::int64_t moved = 0;  // added to the offset in the directory
};

struct ZippedEnd {
  bool wide = true;
  std::int64_t members = 0;  // added to the number of members
  std::int64_t size = 0;
  std::int64_t moved = 0;
  std::string comment = {};
};

inline std::string zipped(const std::vector<ZippedMember>& members, const ZippedEnd& end = {}) {
  std::string out;
  std::string directory;
  for (const ZippedMember& one : members) {
    using std::string_literals::operator""s;
    const std::uint64_t header = out.size() + static_cast<std::uint64_t>(one.moved);
    const std::uint64_t crc = data::crc32(one.data.data(), one.data.size());
    const std::uint64_t size = one.data.size() + one.more_size;
    const std::string local_sizes =
        one.sizes_follow ? std::string(12, '\0')
                         : little_endian(crc, 4) + little_endian(size, 4) + little_endian(size, 4);
    const std::string padding = one.padded ? "FB\x02\x00ZZ"s : "";
    out += "PK\x03\x04" + little_endian(0, 2) + little_endian(one.flags, 2) +
           little_endian(one.method, 2) + little_endian(0, 4) + local_sizes +
           little_endian(one.name.size(), 2) + little_endian(padding.size(), 2) + one.name +
           padding + one.data;
    if (one.sizes_follow) {
      out += "PK\x07\x08" + little_endian(crc, 4) + little_endian(size, 4) + little_endian(size, 4);
    }
    const std::uint64_t narrow = 0xFFFFFFFF;
    const std::string extra = one.wide ? little_endian(1, 2) + little_endian(24, 2) +
                                             little_endian(size, 8) + little_endian(size, 8) +
                                             little_endian(header, 8)
                                       : "";
    const std::string central_size = little_endian(one.wide ? narrow : size, 4);
    directory += "PK\x01\x02" + little_endian(0, 4) + little_endian(one.flags, 2) +
                 little_endian(one.method, 2) + little_endian(0, 4) + little_endian(crc, 4) +
                 central_size + central_size + little_endian(one.central_name.size(), 2) +
                 little_endian(extra.size(), 2) + little_endian(0, 2) + little_endian(one.disk, 2) +
                 little_endian(0, 2) + little_endian(one.attributes, 4) +
                 little_endian(one.wide ? narrow : header, 4) + one.central_name + extra;
  }
  const std::uint64_t begin = out.size() + static_cast<std::uint64_t>(end.moved);
  const std::uint64_t count = members.size() + static_cast<std::uint64_t>(end.members);
  const std::uint64_t size = directory.size() + static_cast<std::uint64_t>(end.size);
  out += directory;
  const std::uint64_t end_at = out.size();
  if (end.wide) {
    out += "PK\x06\x06" + little_endian(44, 8) + little_endian(0, 4) + little_endian(0, 8) +
           little_endian(count, 8) + little_endian(count, 8) + little_endian(size, 8) +
           little_endian(begin, 8) + "PK\x06\x07" + little_endian(0, 4) + little_endian(end_at, 8) +
           little_endian(1, 4);
  }
  const std::uint64_t short_count = end.wide && count > 0xFFFF ? 0xFFFF : count;
  return out + "PK\x05\x06" + little_endian(0, 4) + little_endian(short_count, 2) +
         little_endian(short_count, 2) + little_endian(size, 4) + little_endian(begin, 4) +
         little_endian(end.comment.size(), 2) + end.comment;
}

/// Protocol 2 pickle of a tensor, as torch.save writes it.
struct PickledTensor {
  std::string storage = "ctorch\nFloatStorage\n";
  std::string key = pickled_text("0");
  std::string elements = pickled_int(12);
  std::string offset = pickled_int(0);
  std::string shape = pickled_int(3) + pickled_int(4);
  std::string strides = pickled_int(4) + pickled_int(1);
  std::string after;  // further arguments

  std::string rebuilt() const {
    return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled_text("storage") + storage + key +
           pickled_text("cpu") + elements + "tQ" + offset + "(" + shape + "t(" + strides +
           "t\x89"
           "ccollections\nOrderedDict\n)R" +
           after + "tR";
  }
  std::string pickle() const { return "\x80\x02" + rebuilt() + "."; }
};

inline std::vector<ZippedMember> members_of(std::string pickle, std::string data) {
  return {{"archive/data.pkl", std::move(pickle)},
          {"archive/.format_version", "1"},
          {"archive/byteorder", "little"},
          {"archive/data/0", std::move(data)},
          {"archive/version", "3\n"},
          {"archive/.data/serialization_id", "0123456789"}};
}

inline std::string tensor_part(std::string pickle = PickledTensor{}.pickle(),
                               std::string data = std::string(48, 'x')) {
  return zipped(members_of(std::move(pickle), std::move(data)));
}

}  // namespace shardplan::testing
