#include "core/wire/load_plan.h"

#include "core/wire/bytes.h"
#include "core/wire/names.h"
#include "core/wire/save_plan.h"

namespace shardplan::wire {
namespace {

// The first byte of a row holds its kind and the step from the previous name to its name.
enum Step : std::uint8_t { kSame, kNext, kOther };
constexpr int kKindShift = 2;

/// Returns true if all four offsets in `dim` are zero, so that only the length is encoded.
bool is_plain(const std::int64_t* numbers, std::size_t ndim, std::size_t dim) {
  return numbers[dim] == 0 && numbers[ndim + dim] == 0 && numbers[2 * ndim + dim] == 0 &&
         numbers[3 * ndim + dim] == 0;
}

void write_region(const std::int64_t* numbers, std::size_t ndim, ByteWriter& out) {
  std::uint64_t shifted = 0;
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    shifted |= static_cast<std::uint64_t>(is_plain(numbers, ndim, dim) ? 0 : 1) << dim;
  }
  out.varint(ndim);
  out.varint(shifted);
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    for (std::size_t column = (shifted >> dim & 1) != 0 ? 0 : 4; column < 5; ++column) {
      out.number(numbers[column * ndim + dim]);
    }
  }
}

void read_region(ByteReader& in, std::int64_t* numbers, std::size_t ndim) {
  const std::uint64_t shifted = in.varint();
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    for (std::size_t column = (shifted >> dim & 1) != 0 ? 0 : 4; column < 5; ++column) {
      numbers[column * ndim + dim] = in.number();
    }
  }
}

std::uint32_t read_name(ByteReader& in, Step step, std::uint32_t before, std::size_t names) {
  if (step == kOther) return in.index(names, "name index");
  const std::uint64_t name = static_cast<std::uint64_t>(before) + (step == kNext ? 1 : 0);
  if (name >= names) in.fail_range("name index", name, names);
  return static_cast<std::uint32_t>(name);
}

}  // namespace

std::optional<std::string> write_read_names(const std::vector<std::string>& names) {
  ByteWriter out;
  if (!write_names({names, {}, {}}, out)) return std::nullopt;
  return out.take();
}

std::optional<std::string> write_reads(const columns::ReadColumns& rows) {
  ByteWriter out;
  out.varint(rows.size());
  std::uint32_t before = 0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const bool is_object = rows.kind[row] == columns::ReadKind::kObject;
    const std::uint32_t name = is_object ? before : rows.name[row];
    const Step step = name == before ? kSame : name == before + 1 ? kNext : kOther;
    out.byte(static_cast<std::uint8_t>(static_cast<unsigned>(rows.kind[row]) << kKindShift | step));
    if (step == kOther) out.varint(name);
    before = name;
    if (rows.kind[row] != columns::ReadKind::kTensor) continue;
    if (rows.ndim[row] > columns::kMaxDims) return std::nullopt;
    out.varint(rows.wanted[row]);
    out.varint(rows.saved[row]);
    write_region(rows.numbers.data() + rows.first[row], rows.ndim[row], out);
  }
  return out.take();
}

NamedReads read_reads(std::string_view names, std::string_view rows, std::size_t count) {
  NamedReads out;
  ByteReader of_names(names);
  out.names = read_names(of_names).names;
  of_names.expect_end("names");
  ByteReader in(rows);
  if (const std::size_t found = in.count(); found != count) {
    in.fail("has " + std::to_string(found) + " rows instead of " + std::to_string(count));
  }
  std::uint32_t before = 0;
  std::uint32_t objects = 0;
  for (std::size_t row = 0; row < count; ++row) {
    const unsigned head = in.byte();
    const unsigned kind = head >> kKindShift;
    const unsigned step = head & ((1U << kKindShift) - 1);
    if (kind > static_cast<unsigned>(columns::ReadKind::kObject) || step > kOther) {
      in.fail("has unknown row tag " + std::to_string(head));
    }
    if (kind == static_cast<unsigned>(columns::ReadKind::kObject)) {
      out.rows.push(columns::ReadKind::kObject, objects++);
      continue;
    }
    before = read_name(in, static_cast<Step>(step), before, out.names.size());
    if (kind == static_cast<unsigned>(columns::ReadKind::kBytes)) {
      out.rows.push(columns::ReadKind::kBytes, before);
      continue;
    }
    const std::uint64_t wanted = in.varint();
    const std::uint64_t saved = in.varint();
    const std::size_t ndim = in.index(columns::kMaxDims + 1, "number of dims");
    read_region(in, out.rows.push(columns::ReadKind::kTensor, before, wanted, saved, ndim), ndim);
  }
  in.expect_end("rows");
  return out;
}

}  // namespace shardplan::wire
