#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/columns/plan.h"
#include "core/util/string_table.h"

namespace shardplan::columns {

/// A key of storage_data: what a MetadataIndex is compared by.
struct StorageKey {
  std::string_view fqn;
  std::optional<std::span<const std::int64_t>> offset;
};

/// Where what was saved lies, one row a key of `storage_data` (a MetadataIndex and its
/// _StorageInfo), or a WriteResult, in their order.
struct StorageRows {
  static constexpr std::uint8_t kNoOffset = 0xFF;

  std::shared_ptr<const util::TextTable> names;
  std::shared_ptr<const util::TextTable> paths;
  std::vector<std::uint32_t> name;
  std::vector<std::uint32_t> path;
  std::vector<std::int64_t> chunk_index;  // the index of the key, or kNoChunkIndex for None
  std::vector<std::int64_t> begin;        // in the file, in bytes
  std::vector<std::int64_t> length;
  std::vector<std::uint8_t> ndim;  // of the key's offset; kNoOffset where it is None
  std::vector<std::size_t> first;  // into numbers
  std::vector<std::int64_t> numbers;

  std::size_t size() const { return name.size(); }

  StorageKey key(std::size_t row) const {
    return {(*names)[name[row]],
            ndim[row] == kNoOffset ? std::nullopt : std::optional(offset(row))};
  }
  /// The numbers of a row's offset; none where it is None.
  std::span<const std::int64_t> offset(std::size_t row) const {
    return {numbers.data() + first[row],
            ndim[row] == kNoOffset ? 0 : static_cast<std::size_t>(ndim[row])};
  }

  void reserve(std::size_t rows, std::size_t of_numbers);

  /// Appends a row, and returns the numbers of its offset, to be written by the caller.
  std::int64_t* push(std::uint32_t row_name, std::uint8_t row_ndim, std::int64_t row_index,
                     std::uint32_t row_path, std::int64_t row_begin, std::int64_t row_length);
};

/// The rows of a storage_data, by key.
class StorageIndex {
 public:
  /// `rows` must outlive the index, and not change.
  explicit StorageIndex(const StorageRows& rows);

  using Offset = std::optional<std::span<const std::int64_t>>;

  /// The row of a key, or nothing. `chunk index`: which of the rows of its name it may be.
  std::optional<std::size_t> find(const StorageKey& key, std::int64_t chunk_index) const;
  /// The same, of a name's number in the names of the rows.
  std::optional<std::size_t> find(std::uint32_t name, const Offset& offset,
                                  std::int64_t chunk_index) const;

  /// Whether no key comes twice.
  bool unique() const;

 private:
  std::optional<std::size_t> find_hashed(std::uint32_t name, const Offset& offset) const;
  void hash_all() const;

  const StorageRows& rows_;
  std::vector<std::size_t> begin_;            // a name: into by_name_
  std::vector<std::uint32_t> by_name_;        // rows, name by name
  mutable std::vector<std::uint32_t> slots_;  // row + 1; made when a chunk index does not help
};

/// The storage_data of many ranks' results, as `FileSystemWriter.finish` puts it together: of a key
/// that comes twice, the first key with the last value.
StorageRows merge_results(std::span<const StorageRows* const> results);

}  // namespace shardplan::columns
