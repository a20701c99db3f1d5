#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shardplan::columns {

/// The most dims of a tensor, as torch has it.
inline constexpr std::size_t kMaxDims = 64;

/// What a row of a save plan writes. Of a `kObject` row the columns know nothing: its item is an
/// object that they only point at.
enum class WriteKind : std::uint8_t { kBytes, kTensor, kShard, kObject };

inline bool writes_tensor(WriteKind kind) {
  return kind == WriteKind::kTensor || kind == WriteKind::kShard;
}

/// What entries of a state dict are, each such description kept once.
struct EntrySpecs {
  std::vector<WriteKind> kind;
  std::vector<std::uint32_t> properties;  // into the caller's property table; tensors and shards
  std::vector<std::uint32_t> ndim;
  std::vector<std::size_t> first;  // into shapes
  std::vector<std::int64_t> shapes;

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

  /// Whether the last spec says just this.
  bool last_is(WriteKind spec_kind, std::uint32_t spec_properties,
               std::span<const std::int64_t> shape) const {
    return !kind.empty() && kind.back() == spec_kind && properties.back() == spec_properties &&
           std::ranges::equal(this->shape(size() - 1), shape);
  }
};

/// The part of a save plan that is the same on every rank of a usual job: which entries there are,
/// and what they are. Names and property values belong to the caller, in tables of its own.
struct SaveTable {
  EntrySpecs specs;
  std::vector<std::uint32_t> name;  // an entry: into the names
  std::vector<std::uint32_t> spec;  // an entry: into the specs

  std::size_t size() const { return name.size(); }
};

/// The rows of one rank's save plan, in the order of the items.
struct SaveRows {
  std::vector<std::uint32_t> entry;   // into the table; for kObject entries too
  std::vector<std::size_t> first;     // into numbers
  std::vector<std::int64_t> numbers;  // a row: offsets, sizes; 2 * ndim

  std::size_t size() const { return entry.size(); }

  /// Appends a row and returns its 2 * ndim numbers, to be written by the caller.
  std::int64_t* push(std::uint32_t row_entry, std::size_t ndim) {
    entry.push_back(row_entry);
    first.push_back(numbers.size());
    numbers.resize(numbers.size() + 2 * ndim);
    return numbers.data() + first.back();
  }
};

/// No chunk index: `MetadataIndex.index` is None.
inline constexpr std::int64_t kNoChunkIndex = -1;

/// A plan as its table, its rows, and the choice among them that a global plan makes. Whoever makes
/// one keeps what it points at alive.
struct SavePlanView {
  const SaveTable* table = nullptr;
  const SaveRows* rows = nullptr;
  const std::vector<std::uint32_t>* chosen = nullptr;  // rows, ascending; none: every row
  const std::vector<std::int64_t>* chunk_indices =
      nullptr;  // a chosen row: its chunk index, or kNoChunkIndex

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
  /// The row's offsets, followed by its sizes.
  const std::int64_t* numbers(std::size_t position) const {
    return rows->numbers.data() + rows->first[row(position)];
  }
};

/// What a row of a load plan reads.
enum class ReadKind : std::uint8_t { kBytes, kTensor, kObject };

/// A load plan as columns, one row a read item, in the order of the items.
struct ReadColumns {
  std::vector<ReadKind> kind;
  std::vector<std::uint32_t> name;  // into the names; for kObject into the foreign items
  std::vector<std::size_t> wanted;  // index among the tensor's wanted boxes
  std::vector<std::size_t> saved;   // index among the tensor's saved boxes
  std::vector<std::uint32_t> ndim;
  std::vector<std::size_t> first;  // into numbers
  // a row: start of the wanted box, start of the saved box, destination offsets, storage offsets,
  // lengths; 5 * ndim
  std::vector<std::int64_t> numbers;

  std::size_t size() const { return kind.size(); }

  /// Appends a row without numbers.
  void push(ReadKind row_kind, std::uint32_t row_name) { push(row_kind, row_name, 0, 0, 0); }

  /// Appends a row and returns its 5 * ndim numbers, to be written by the caller.
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

  /// Drops every row from `count` on.
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
