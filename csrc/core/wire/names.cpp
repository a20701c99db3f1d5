#include "core/wire/names.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "core/util/text.h"

namespace shardplan::wire {
namespace {

constexpr std::size_t kInNibble = 15;

std::vector<std::string_view> split(std::string_view name) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0;;) {
    const std::size_t dot = name.find('.', begin);
    parts.push_back(name.substr(begin, dot - begin));
    if (dot == std::string_view::npos) return parts;
    begin = dot + 1;
  }
}

/// Distinct parts, numbered in order of first appearance.
class Parts {
 public:
  std::uint32_t operator[](std::string_view part) {
    const auto [entry, is_new] =
        numbers_.try_emplace(part, static_cast<std::uint32_t>(parts_.size()));
    if (is_new) parts_.push_back(part);
    return entry->second;
  }
  const std::vector<std::string_view>& all() const { return parts_; }

 private:
  std::unordered_map<std::string_view, std::uint32_t> numbers_;
  std::vector<std::string_view> parts_;
};

void write_counts(std::size_t shared, std::size_t added, ByteWriter& out) {
  const bool small = shared < kInNibble && added < kInNibble;
  out.byte(static_cast<std::uint8_t>(small ? shared << 4 | added : 0xFF));
  if (small) return;
  out.varint(shared);
  out.varint(added);
}

void write_shapes(const PlanNames& names, ByteWriter& out) {
  out.varint(names.shapes.size());
  for (const PathShape& shape : names.shapes) {
    out.varint(shape.size());
    for (const PathElement& element : shape) {
      out.varint(static_cast<std::uint64_t>(element.parts) << 1 | (element.is_int ? 1U : 0U));
    }
  }
  out.varint(names.shape_of_name.size());
  for (const std::uint32_t shape : names.shape_of_name) out.varint(shape);
}

std::size_t parts_of(const PathShape& shape) {
  std::size_t parts = 0;
  for (const PathElement& element : shape) parts += element.parts;
  return parts;
}

void read_shapes(ByteReader& in, PlanNames& out) {
  out.shapes.resize(in.count());
  std::vector<std::size_t> parts;
  for (PathShape& shape : out.shapes) {
    shape.resize(in.count());
    for (PathElement& element : shape) {
      const std::uint64_t packed = in.varint();
      if (packed >> 1 == 0 || packed >> 1 > kLongestName + 1) {
        in.fail("has a path element of " + std::to_string(packed >> 1) + " name parts");
      }
      element = {static_cast<std::uint32_t>(packed >> 1), (packed & 1) != 0};
    }
    parts.push_back(parts_of(shape));
  }
  const std::size_t mapped = in.count();
  if (mapped > out.names.size()) {
    in.fail("has " + std::to_string(mapped) + " paths for " + std::to_string(out.names.size()) +
            " names");
  }
  out.shape_of_name.reserve(mapped);
  for (std::size_t name = 0; name < mapped; ++name) {
    out.shape_of_name.push_back(in.index(out.shapes.size(), "path shape index"));
    if (parts[out.shape_of_name.back()] != count_parts(out.names[name])) {
      in.fail("has a path that does not match name " + util::printable(out.names[name]));
    }
  }
}

}  // namespace

std::size_t count_parts(std::string_view name) {
  return static_cast<std::size_t>(std::ranges::count(name, '.')) + 1;
}

bool write_names(const PlanNames& names, ByteWriter& out) {
  Parts parts;
  ByteWriter coded;
  std::vector<std::string_view> before;
  for (const std::string& name : names.names) {
    if (name.size() > kLongestName) return false;
    std::vector<std::string_view> now = split(name);
    const auto differs = std::ranges::mismatch(before, now).in2;
    const auto shared = static_cast<std::size_t>(differs - now.begin());
    write_counts(shared, now.size() - shared, coded);
    for (auto part = differs; part != now.end(); ++part) coded.varint(parts[*part]);
    before = std::move(now);
  }
  out.varint(parts.all().size());
  for (const std::string_view part : parts.all()) out.string(part);
  out.varint(names.names.size());
  out.raw(coded.bytes());
  write_shapes(names, out);
  return true;
}

PlanNames read_names(ByteReader& in) {
  std::vector<std::string_view> parts(in.count());
  for (std::string_view& part : parts) part = in.string();
  PlanNames out;
  out.names.resize(in.count());
  std::vector<std::size_t> ends;  // end of each part of the previous name
  std::string_view before;
  for (std::string& name : out.names) {
    std::uint64_t shared = in.byte();
    std::uint64_t added = shared & kInNibble;
    shared >>= 4;
    if (shared == kInNibble) {
      shared = in.varint();
      added = in.varint();
    }
    if (shared > ends.size()) {
      in.fail("has a name that shares " + std::to_string(shared) + " parts with a name of " +
              std::to_string(ends.size()));
    }
    if (added > in.left()) in.fail_count(added);
    if (shared + added == 0) in.fail("has a name without parts");
    ends.resize(static_cast<std::size_t>(shared));
    if (shared > 0) name.assign(before.substr(0, ends.back()));
    for (std::uint64_t part = 0; part < added; ++part) {
      if (!ends.empty()) name.push_back('.');
      name.append(parts[in.index(parts.size(), "name part index")]);
      ends.push_back(name.size());
      if (name.size() > kLongestName) {
        in.fail("has a name longer than " + std::to_string(kLongestName) + " bytes");
      }
    }
    before = name;
  }
  read_shapes(in, out);
  return out;
}

}  // namespace shardplan::wire
