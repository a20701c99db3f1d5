#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shardplan {

/// What a row of a save plan writes. `kForeign` rows are items that a caller made and that the
/// columns only point at.
enum class WriteKind : std::uint8_t { kBytes, kTensor, kShard, kForeign };

/// A save plan as columns, one row a write item, in the order of the items.
///
/// Names, tensor properties and foreign items belong to the caller, in tables of its own; rows hold
/// indices into them, so that what many rows share is kept once.
struct SaveColumns {
  std::vector<WriteKind> kind;
  std::vector<std::uint32_t> name;        // into the names; for kForeign into the foreign items
  std::vector<std::uint32_t> properties;  // into the property table; tensors and shards only
  std::vector<std::uint32_t> ndim;
  std::vector<std::size_t> first;     // into numbers
  std::vector<std::int64_t> numbers;  // a row: global size, offsets, sizes; 3 * ndim

  std::size_t size() const { return kind.size(); }

  /// Appends a row without numbers.
  void push(WriteKind row_kind, std::uint32_t row_name) { push(row_kind, row_name, 0, 0); }

  /// Appends a row and returns its 3 * ndim numbers, to be written by the caller.
  std::int64_t* push(WriteKind row_kind, std::uint32_t row_name, std::uint32_t row_properties,
                     std::size_t row_ndim) {
    kind.push_back(row_kind);
    name.push_back(row_name);
    properties.push_back(row_properties);
    ndim.push_back(static_cast<std::uint32_t>(row_ndim));
    first.push_back(numbers.size());
    numbers.resize(numbers.size() + 3 * row_ndim);
    return numbers.data() + first.back();
  }
};

/// What a row of a load plan reads.
enum class ReadKind : std::uint8_t { kBytes, kTensor, kForeign };

/// A load plan as columns, one row a read item, in the order of the items.
struct ReadColumns {
  std::vector<ReadKind> kind;
  std::vector<std::uint32_t> name;  // into the names; for kForeign into the foreign items
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

}  // namespace shardplan
