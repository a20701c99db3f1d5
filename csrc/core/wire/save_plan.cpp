#include "core/wire/save_plan.h"

#include <map>
#include <string>

#include "core/util/checked.h"

namespace shardplan::wire {
namespace {

// Flags of the rows.
constexpr std::uint8_t kInOrder = 1;  // row i has entry i
constexpr std::uint8_t kChunkIndices = 2;

/// Returns the bit mask of the dims in which the box does not span the tensor.
std::uint64_t cut_dims(std::span<const std::int64_t> shape, const std::int64_t* numbers) {
  const std::size_t ndim = shape.size();
  std::uint64_t cut = 0;
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    const bool whole = numbers[dim] == 0 && numbers[ndim + dim] == shape[dim];
    cut |= static_cast<std::uint64_t>(whole ? 0 : 1) << dim;
  }
  return cut;
}

void write_spec(const columns::EntrySpecs& specs, std::size_t spec, ByteWriter& out) {
  out.byte(static_cast<std::uint8_t>(specs.kind[spec]));
  if (!columns::writes_tensor(specs.kind[spec])) return;
  out.varint(specs.properties[spec]);
  out.varint(specs.ndim[spec]);
  for (const std::int64_t size : specs.shape(spec)) out.number(size);
}

/// Returns the distinct specs, in order of first appearance. Sets `number` to the position of each
/// spec in the result.
std::vector<std::uint32_t> distinct(const columns::EntrySpecs& specs,
                                    std::vector<std::uint32_t>& number) {
  std::vector<std::uint32_t> kept;
  std::map<std::string, std::uint32_t, std::less<>> known;
  for (std::size_t spec = 0; spec < specs.size(); ++spec) {
    ByteWriter coded;
    write_spec(specs, spec, coded);
    const auto [entry, is_new] =
        known.try_emplace(coded.take(), static_cast<std::uint32_t>(kept.size()));
    if (is_new) kept.push_back(static_cast<std::uint32_t>(spec));
    number.push_back(entry->second);
  }
  return kept;
}

void read_spec(ByteReader& in, std::size_t property_rows, columns::EntrySpecs& specs) {
  const std::uint8_t kind = in.byte();
  if (kind > static_cast<std::uint8_t>(columns::WriteKind::kObject)) {
    in.fail("has unknown entry kind " + std::to_string(kind));
  }
  if (!columns::writes_tensor(static_cast<columns::WriteKind>(kind))) {
    specs.push(static_cast<columns::WriteKind>(kind), 0, {});
    return;
  }
  const std::uint32_t properties = in.index(property_rows, "property index");
  std::vector<std::int64_t> shape(in.index(columns::kMaxDims + 1, "number of dims"));
  for (std::int64_t& size : shape) size = in.number();
  specs.push(static_cast<columns::WriteKind>(kind), properties, shape);
}

void read_box(ByteReader& in, std::span<const std::int64_t> shape, std::int64_t* numbers) {
  const std::size_t ndim = shape.size();
  const std::uint64_t cut = in.varint();
  if (ndim < columns::kMaxDims && cut >> ndim != 0) in.fail_bits("dim mask", cut);
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    const bool is_cut = (cut >> dim & 1) != 0;
    numbers[dim] = is_cut ? in.number() : 0;
    numbers[ndim + dim] = is_cut ? in.number() : shape[dim];
  }
}

}  // namespace

std::optional<std::string> write_table(const NamedTable& named) {
  const columns::EntrySpecs& specs = named.table.specs;
  ByteWriter out;
  if (!write_names(named.names, out)) return std::nullopt;
  out.varint(named.properties.size());
  for (const std::string& row : named.properties) out.string(row);
  for (const std::uint32_t ndim : specs.ndim) {
    if (ndim > columns::kMaxDims) return std::nullopt;
  }
  std::vector<std::uint32_t> number;
  const std::vector<std::uint32_t> kept = distinct(specs, number);
  out.varint(kept.size());
  for (const std::uint32_t spec : kept) write_spec(specs, spec, out);
  out.varint(named.table.size());
  std::int64_t next = 0;
  for (std::size_t entry = 0; entry < named.table.size(); ++entry) {
    // The low bit is 0 if the name is the one after the previous name, the usual case.
    const std::int64_t name = named.table.name[entry];
    const bool follows = name == next;
    out.varint(static_cast<std::uint64_t>(number[named.table.spec[entry]]) << 1 |
               (follows ? 0U : 1U));
    if (!follows) out.varint(static_cast<std::uint64_t>(name));
    next = name + 1;
  }
  return out.take();
}

NamedTable read_table(std::string_view bytes) {
  ByteReader in(bytes);
  NamedTable out;
  out.names = read_names(in);
  out.properties.resize(in.count());
  for (std::string& row : out.properties) row = in.string();
  const std::size_t specs = in.count();
  for (std::size_t spec = 0; spec < specs; ++spec) {
    read_spec(in, out.properties.size(), out.table.specs);
  }
  const std::size_t entries = in.count();
  out.table.name.reserve(entries);
  out.table.spec.reserve(entries);
  std::uint64_t next = 0;
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::uint64_t packed = in.varint();
    if (packed >> 1 >= specs) in.fail_range("spec index", packed >> 1, specs);
    const std::uint64_t name = (packed & 1) != 0 ? in.varint() : next;
    if (name >= out.names.names.size()) in.fail_range("name index", name, out.names.names.size());
    out.table.name.push_back(static_cast<std::uint32_t>(name));
    out.table.spec.push_back(static_cast<std::uint32_t>(packed >> 1));
    next = name + 1;
  }
  in.expect_end("table");
  return out;
}

std::string write_rows(const columns::SavePlanView& view) {
  ByteWriter out;
  bool in_order = view.size() == view.table->size();
  for (std::size_t at = 0; in_order && at < view.size(); ++at) in_order = view.entry(at) == at;
  const bool has_indices = view.chunk_indices != nullptr;
  out.byte(
      static_cast<std::uint8_t>((in_order ? kInOrder : 0) | (has_indices ? kChunkIndices : 0)));
  std::int64_t next = 0;
  std::int64_t last_index = 0;
  for (std::size_t at = 0; at < view.size(); ++at) {
    const std::int64_t entry = view.entry(at);
    if (!in_order) out.number(entry - next);
    next = entry + 1;
    if (!columns::writes_tensor(view.kind(at))) continue;
    const auto shape = view.shape(at);
    const std::int64_t* numbers = view.numbers(at);
    const std::uint64_t cut = cut_dims(shape, numbers);
    out.varint(cut);
    for (std::size_t dim = 0; dim < shape.size(); ++dim) {
      if ((cut >> dim & 1) == 0) continue;
      out.number(numbers[dim]);
      out.number(numbers[shape.size() + dim]);
    }
    if (!has_indices) continue;
    out.number(util::wrapping_add(view.chunk_index(at), -last_index));
    last_index = view.chunk_index(at);
  }
  return out.take();
}

ReceivedRows read_rows(std::string_view bytes, std::size_t count, const columns::SaveTable& table) {
  ByteReader in(bytes);
  const std::uint8_t flags = in.byte();
  if (flags > (kInOrder | kChunkIndices)) in.fail_bits("flags", flags);
  const bool in_order = (flags & kInOrder) != 0;
  const bool has_indices = (flags & kChunkIndices) != 0;
  if (in_order && count != table.size()) {
    in.fail("has " + std::to_string(count) + " rows in the order of a table of " +
            std::to_string(table.size()));
  }
  if (!in_order && count > in.left()) in.fail_count(count);
  ReceivedRows out;
  out.rows.entry.reserve(count);
  out.rows.first.reserve(count);
  if (has_indices) out.chunk_indices.assign(count, columns::kNoChunkIndex);
  std::int64_t next = 0;
  std::int64_t last_index = 0;
  for (std::size_t row = 0; row < count; ++row) {
    const std::int64_t entry = in_order ? next : util::wrapping_add(next, in.number());
    if (entry < 0) in.fail("has entry index " + std::to_string(entry) + ", which is negative");
    if (static_cast<std::uint64_t>(entry) >= table.size()) {
      in.fail_range("entry index", static_cast<std::uint64_t>(entry), table.size());
    }
    next = entry + 1;
    const std::uint32_t spec = table.spec[static_cast<std::size_t>(entry)];
    std::int64_t* numbers =
        out.rows.push(static_cast<std::uint32_t>(entry), table.specs.ndim[spec]);
    if (!columns::writes_tensor(table.specs.kind[spec])) continue;
    read_box(in, table.specs.shape(spec), numbers);
    if (!has_indices) continue;
    last_index = util::wrapping_add(last_index, in.number());
    if (last_index < columns::kNoChunkIndex) {
      in.fail("has chunk index " + std::to_string(last_index) + ", which is negative");
    }
    out.chunk_indices[row] = last_index;
  }
  in.expect_end("rows");
  return out;
}

}  // namespace shardplan::wire
