#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace shardplan::columns {

/// Maximum number of dims of a tensor; the limit of torch.
inline constexpr std::size_t kMaxDims = 64;

/// Kind of a row of a save plan. A `kObject` row has no columns; its item is a Python object that
/// the caller keeps.
enum class WriteKind : std::uint8_t { kBytes, kTensor, kShard, kObject };

inline bool writes_tensor(WriteKind kind) {
  return kind == WriteKind::kTensor || kind == WriteKind::kShard;
}

/// Descriptions of state dict entries. Entries with equal descriptions can share one spec.
struct EntrySpecs {
  std::vector<WriteKind> kind;
  std::vector<std::uint32_t> properties;  // row of the caller's property table; unused for others
  std::vector<std::uint32_t> ndim;
  std::vector<std::size_t> first;  // per spec: index of its first size in `shapes`
  std::vector<std::int64_t> shapes;

  bool operator==(const EntrySpecs&) const = default;

  std::size_t size() const { return kind.size(); }
  std::span<const std::int64_t> shape(std::size_t spec) const {
    return {shapes.data() + first[spec], ndim[spec]};
  }

  /// Appends a spec and returns its index.
  std::uint32_t push(WriteKind spec_kind, std::uint32_t spec_properties,
                     std::span<const std::int64_t> shape) {
    kind.push_back(spec_kind);
    properties.push_back(spec_properties);
    ndim.push_back(static_cast<std::uint32_t>(shape.size()));
    first.push_back(shapes.size());
    shapes.insert(shapes.end(), shape.begin(), shape.end());
    return static_cast<std::uint32_t>(kind.size() - 1);
  }

  /// Appends a spec unless the last one equals it. Returns the index of the last spec.
  std::uint32_t push_if_new(WriteKind spec_kind, std::uint32_t spec_properties,
                            std::span<const std::int64_t> shape) {
    if (!last_is(spec_kind, spec_properties, shape)) push(spec_kind, spec_properties, shape);
    return static_cast<std::uint32_t>(kind.size() - 1);
  }

 private:
  bool last_is(WriteKind spec_kind, std::uint32_t spec_properties,
               std::span<const std::int64_t> shape) const {
    return !kind.empty() && kind.back() == spec_kind && properties.back() == spec_properties &&
           std::ranges::equal(this->shape(size() - 1), shape);
  }
};

/// Entries of a save plan: the part that is normally equal on every rank. Names and property values
/// are in tables of the caller.
struct SaveTable {
  EntrySpecs specs;
  std::vector<std::uint32_t> name;  // per entry: index in the caller's names
  std::vector<std::uint32_t> spec;  // per entry: index in `specs`

  bool operator==(const SaveTable&) const = default;

  std::size_t size() const { return name.size(); }

  /// Appends an entry unless the last one equals it. Returns the index of the last entry.
  std::uint32_t push_if_new(std::uint32_t entry_name, WriteKind kind, std::uint32_t properties,
                            std::span<const std::int64_t> shape) {
    const std::uint32_t last = specs.push_if_new(kind, properties, shape);
    if (name.empty() || name.back() != entry_name || spec.back() != last) {
      name.push_back(entry_name);
      spec.push_back(last);
    }
    return static_cast<std::uint32_t>(name.size() - 1);
  }
};

/// Returns the index of the newest of the last few rows for which `is_equal` is true. Neighbouring
/// items of a plan often have equal properties, so that a caller need not search all rows.
template <typename Rows, typename IsEqual>
std::optional<std::uint32_t> find_recent(const Rows& rows, IsEqual&& is_equal) {
  constexpr std::size_t kFew = 8;
  for (std::size_t row = rows.size(); row > 0 && rows.size() - row < kFew; --row) {
    if (is_equal(rows[row - 1])) return static_cast<std::uint32_t>(row - 1);
  }
  return std::nullopt;
}

/// Returns the row of a value among the last few, or of a new one.
template <typename Rows, typename IsEqual>
std::uint32_t row_of(Rows& rows, const typename Rows::value_type& value, IsEqual&& is_equal) {
  if (const auto known = find_recent(rows, is_equal)) return *known;
  rows.push_back(value);
  return static_cast<std::uint32_t>(rows.size() - 1);
}

/// Rows of one rank's save plan, in item order.
struct SaveRows {
  std::vector<std::uint32_t> entry;   // index in the table; also set for object rows
  std::vector<std::size_t> first;     // per row: index of its first number
  std::vector<std::int64_t> numbers;  // per row: ndim offsets, then ndim sizes

  std::size_t size() const { return entry.size(); }

  /// Appends a row. Returns a pointer to its 2 * ndim numbers, initially zero; valid until the next
  /// push.
  std::int64_t* push(std::uint32_t row_entry, std::size_t ndim) {
    entry.push_back(row_entry);
    first.push_back(numbers.size());
    numbers.resize(numbers.size() + 2 * ndim);
    return numbers.data() + first.back();
  }
};

/// Chunk index of rows whose `MetadataIndex.index` is None.
inline constexpr std::int64_t kNoChunkIndex = -1;

/// Appends the chunk index of row `row`. `indices` stays empty until a row has one.
inline void push_chunk_index(std::vector<std::int64_t>& indices, std::size_t row,
                             std::int64_t index) {
  if (indices.empty() && index == kNoChunkIndex) return;
  indices.resize(row, kNoChunkIndex);
  indices.push_back(index);
}

/// Non-owning view of a save plan: its table, its rows, and the rows that the global plan kept.
struct SavePlanView {
  const SaveTable* table = nullptr;
  const SaveRows* rows = nullptr;
  const std::vector<std::uint32_t>* chosen = nullptr;  // kept rows, ascending; null for all rows
  /// Per kept row: its chunk index or kNoChunkIndex. Null if no row has one.
  const std::vector<std::int64_t>* chunk_indices = nullptr;

  std::size_t size() const { return chosen != nullptr ? chosen->size() : rows->size(); }
  std::size_t row(std::size_t position) const {
    return chosen != nullptr ? (*chosen)[position] : position;
  }
  std::uint32_t entry(std::size_t position) const { return rows->entry[row(position)]; }
  std::uint32_t spec(std::size_t position) const { return table->spec[entry(position)]; }
  WriteKind kind(std::size_t position) const { return table->specs.kind[spec(position)]; }
  std::size_t ndim(std::size_t position) const { return table->specs.ndim[spec(position)]; }
  std::int64_t chunk_index(std::size_t position) const {
    return chunk_indices != nullptr ? (*chunk_indices)[position] : kNoChunkIndex;
  }
  std::span<const std::int64_t> shape(std::size_t position) const {
    return table->specs.shape(spec(position));
  }
  /// Returns the offsets of the row, followed by its sizes.
  const std::int64_t* numbers(std::size_t position) const {
    return rows->numbers.data() + rows->first[row(position)];
  }
};

/// Kind of a row of a load plan; kObject as in WriteKind.
enum class ReadKind : std::uint8_t { kBytes, kTensor, kObject };

/// Columns of a load plan: one row per read item, in item order.
struct ReadColumns {
  std::vector<ReadKind> kind;
  std::vector<std::uint32_t> name;  // index in the names; for kObject, in the caller's items
  std::vector<std::size_t> wanted;  // index of the wanted box within the tensor
  std::vector<std::size_t> saved;   // index of the saved box within the tensor
  std::vector<std::uint32_t> ndim;
  std::vector<std::size_t> first;  // per row: index of its first number
  /// Per row, ndim numbers each: start of the wanted box, start of the saved box, destination
  /// offsets, storage offsets, lengths.
  std::vector<std::int64_t> numbers;

  std::size_t size() const { return kind.size(); }

  /// Appends a row without numbers.
  void push(ReadKind row_kind, std::uint32_t row_name) { push(row_kind, row_name, 0, 0, 0); }

  /// Appends a row. Returns a pointer to its 5 * ndim numbers, initially zero; valid until the next
  /// push.
  std::int64_t* push(ReadKind row_kind, std::uint32_t row_name, std::size_t row_wanted,
                     std::size_t row_saved, std::size_t row_ndim) {
    kind.push_back(row_kind);
    name.push_back(row_name);
    wanted.push_back(row_wanted);
    saved.push_back(row_saved);
    ndim.push_back(static_cast<std::uint32_t>(row_ndim));
    first.push_back(numbers.size());
    numbers.resize(numbers.size() + 5 * row_ndim);
    return numbers.data() + first.back();
  }

  /// Drops all rows at index `count` and above.
  void truncate(std::size_t count) {
    if (count >= size()) return;
    numbers.resize(first[count]);
    kind.resize(count);
    name.resize(count);
    wanted.resize(count);
    saved.resize(count);
    ndim.resize(count);
    first.resize(count);
  }
};

}  // namespace shardplan::columns
