#include "core/wire/storage.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/util/checked.h"
#include "core/util/text.h"
#include "core/wire/bytes.h"
#include "core/wire/names.h"

namespace shardplan::wire {
namespace {

// First byte of a row: flags of the fields that differ from the predicted row.
enum : std::uint8_t {
  kOtherName = 1,
  kOtherPath = 2,
  kOtherBegin = 4,
  kOtherIndex = 8,
  kOtherDims = 16,
};

/// Predicted next row: the next name, at the end of the previous row in the same file. Only
/// differences are encoded.
struct Expected {
  std::uint32_t name = 0;
  std::uint32_t path = 0;
  std::int64_t begin = 0;
  std::int64_t chunk_index = columns::kNoChunkIndex;
  std::uint8_t ndim = columns::StorageRows::kNoOffset;

  void follow(const columns::StorageRows& rows, std::size_t row) {
    name = rows.name[row] + 1;
    path = rows.path[row];
    if (!util::checked_add(rows.begin[row], rows.length[row], begin)) begin = 0;
    chunk_index = rows.chunk_index[row];
    ndim = rows.ndim[row];
  }
};

void write_offset(std::span<const std::int64_t> offset, ByteWriter& out) {
  std::uint64_t set = 0;
  for (std::size_t dim = 0; dim < offset.size(); ++dim) {
    set |= static_cast<std::uint64_t>(offset[dim] != 0 ? 1 : 0) << dim;
  }
  out.varint(set);
  for (const std::int64_t number : offset) {
    if (number != 0) out.number(number);
  }
}

void read_offset(ByteReader& in, std::int64_t* numbers, std::size_t ndim) {
  const std::uint64_t set = in.varint();
  if (ndim < 64 && set >> ndim != 0) in.fail_bits("dim mask", set);
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    numbers[dim] = (set >> dim & 1) != 0 ? in.number() : 0;
  }
}

}  // namespace

std::optional<std::string> write_storage_names(const columns::StorageRows& rows) {
  PlanNames names;
  for (std::size_t name = 0; name < rows.names->size(); ++name) {
    names.names.emplace_back((*rows.names)[name]);
  }
  const auto too_many = [](std::uint8_t ndim) {
    return ndim > columns::kMaxDims && ndim != columns::StorageRows::kNoOffset;
  };
  ByteWriter out;
  if (std::ranges::any_of(rows.ndim, too_many) || !write_names(names, out)) return std::nullopt;
  return out.take();
}

std::string write_storage_rows(const columns::StorageRows& rows) {
  ByteWriter out;
  out.varint(rows.paths->size());
  for (std::size_t path = 0; path < rows.paths->size(); ++path) out.string((*rows.paths)[path]);
  Expected expected;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const auto differs = static_cast<std::uint8_t>(
        (rows.name[row] != expected.name ? kOtherName : 0) |
        (rows.path[row] != expected.path ? kOtherPath : 0) |
        (rows.begin[row] != expected.begin ? kOtherBegin : 0) |
        (rows.chunk_index[row] != expected.chunk_index ? kOtherIndex : 0) |
        (rows.ndim[row] != expected.ndim ? kOtherDims : 0));
    out.byte(differs);
    if ((differs & kOtherName) != 0) out.varint(rows.name[row]);
    if ((differs & kOtherPath) != 0) out.varint(rows.path[row]);
    if ((differs & kOtherBegin) != 0) out.number(rows.begin[row]);
    if ((differs & kOtherIndex) != 0) out.number(rows.chunk_index[row]);
    if ((differs & kOtherDims) != 0) out.byte(rows.ndim[row]);
    if (!rows.offset(row).empty()) write_offset(rows.offset(row), out);
    out.number(rows.length[row]);
    expected.follow(rows, row);
  }
  return out.take();
}

util::TextTable read_storage_names(std::string_view bytes) {
  ByteReader in(bytes);
  const PlanNames read = read_names(in);
  in.expect_end("names");
  util::TextTable names;
  for (const std::string& name : read.names) {
    if (names.find(name)) in.fail("has duplicate name " + util::printable(name));
    names.number_of(name);
  }
  return names;
}

columns::StorageRows read_storage_rows(std::string_view bytes, std::size_t count,
                                       std::shared_ptr<const util::TextTable> names) {
  ByteReader in(bytes);
  columns::StorageRows rows;
  auto paths = std::make_shared<util::TextTable>();
  for (std::size_t left = in.count(); left > 0; --left) {
    const std::string_view path = in.string();
    if (paths->find(path)) in.fail("has duplicate path " + util::printable(path));
    paths->number_of(path);
  }
  if (count > in.left()) in.fail_count(count);
  rows.reserve(count, count);
  Expected expected;
  for (std::size_t row = 0; row < count; ++row) {
    const std::uint8_t differs = in.byte();
    if (differs >= 2 * kOtherDims) in.fail_bits("flags", differs);
    if ((differs & kOtherName) != 0) expected.name = in.index(names->size(), "name index");
    if ((differs & kOtherPath) != 0) expected.path = in.index(paths->size(), "path index");
    if ((differs & kOtherBegin) != 0) expected.begin = in.number();
    if ((differs & kOtherIndex) != 0) expected.chunk_index = in.number();
    if ((differs & kOtherDims) != 0) expected.ndim = in.byte();
    if (expected.name >= names->size()) {
      in.fail_range("name index", expected.name, names->size());
    }
    if (expected.path >= paths->size()) {
      in.fail_range("path index", expected.path, paths->size());
    }
    if (expected.chunk_index < columns::kNoChunkIndex) {
      in.fail("has chunk index " + std::to_string(expected.chunk_index) + ", which is negative");
    }
    const bool has_offset = expected.ndim != columns::StorageRows::kNoOffset;
    if (has_offset && expected.ndim > columns::kMaxDims) {
      in.fail_range("number of dims", expected.ndim, columns::kMaxDims + 1);
    }
    std::int64_t* numbers = rows.push(expected.name, expected.ndim, expected.chunk_index,
                                      expected.path, expected.begin, 0);
    if (has_offset && expected.ndim > 0) read_offset(in, numbers, expected.ndim);
    rows.length[row] = in.number();
    expected.follow(rows, row);
  }
  in.expect_end("rows");
  rows.names = std::move(names);
  rows.paths = std::move(paths);
  return rows;
}

}  // namespace shardplan::wire
