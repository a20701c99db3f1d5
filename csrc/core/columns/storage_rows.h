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

/// Key of `storage_data`: the fields that take part in equality of MetadataIndex.
struct StorageKey {
  std::string_view fqn;
  std::optional<std::span<const std::int64_t>> offset;
};

/// Columns of storage locations: one row per item of `storage_data` (MetadataIndex and
/// _StorageInfo) or per WriteResult, in order.
struct StorageRows {
  static constexpr std::uint8_t kNoOffset = 0xFF;

  std::shared_ptr<const util::TextTable> names;
  std::shared_ptr<const util::TextTable> paths;
  std::vector<std::uint32_t> name;
  std::vector<std::uint32_t> path;
  std::vector<std::int64_t> chunk_index;  // MetadataIndex.index, or kNoChunkIndex for None
  std::vector<std::int64_t> begin;        // byte offset in the file
  std::vector<std::int64_t> length;       // in bytes
  std::vector<std::uint8_t> ndim;         // dims of MetadataIndex.offset, or kNoOffset for None
  std::vector<std::size_t> first;         // per row: index of its first number
  std::vector<std::int64_t> numbers;

  std::size_t size() const { return name.size(); }

  StorageKey key(std::size_t row) const { return {(*names)[name[row]], optional_offset(row)}; }
  /// Returns the offset of a row; nullopt if it is None.
  std::optional<std::span<const std::int64_t>> optional_offset(std::size_t row) const {
    return ndim[row] == kNoOffset ? std::nullopt : std::optional(offset(row));
  }
  /// Returns the offset of a row; empty if it is None.
  std::span<const std::int64_t> offset(std::size_t row) const {
    return {numbers.data() + first[row],
            ndim[row] == kNoOffset ? 0 : static_cast<std::size_t>(ndim[row])};
  }

  void reserve(std::size_t rows, std::size_t of_numbers);

  /// Appends a row. Returns a pointer to the numbers of its offset, initially zero; valid until the
  /// next push.
  std::int64_t* push(std::uint32_t row_name, std::uint8_t row_ndim, std::int64_t row_index,
                     std::uint32_t row_path, std::int64_t row_begin, std::int64_t row_length);
};

/// Returns, for each path, the end of its last row in bytes; INT64_MAX if that overflows.
std::vector<std::int64_t> file_ends(const StorageRows& rows);

/// Lookup of storage rows by key.
class StorageIndex {
 public:
  /// `rows` must outlive the index and must not change.
  explicit StorageIndex(const StorageRows& rows);

  using Offset = std::optional<std::span<const std::int64_t>>;

  /// Returns the row of a key, or nullopt. `chunk_index` is a hint: the position of the row among
  /// those of its name, or kNoChunkIndex.
  std::optional<std::size_t> find(const StorageKey& key, std::int64_t chunk_index) const;
  /// Same, with the name given by its number in `rows.names`.
  std::optional<std::size_t> find(std::uint32_t name, const Offset& offset,
                                  std::int64_t chunk_index) const;

  /// Returns true if all keys are distinct.
  bool unique() const;

 private:
  std::optional<std::size_t> find_hashed(std::uint32_t name, const Offset& offset) const;
  void hash_all() const;

  const StorageRows& rows_;
  std::vector<std::size_t> begin_;            // per name: index of its first row in by_name_
  std::vector<std::uint32_t> by_name_;        // rows grouped by name
  mutable std::vector<std::uint32_t> slots_;  // row + 1, or 0; built when a hint first fails
};

/// Merges the results of all ranks as `FileSystemWriter.finish` does. For duplicate keys, the first
/// key and the last value are kept.
StorageRows merge_results(std::span<const StorageRows* const> results);

}  // namespace shardplan::columns
