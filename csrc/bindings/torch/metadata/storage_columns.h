#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/columns/storage_rows.h"

namespace shardplan::bindings {

/// The locations of a `storage_data`, or of a rank's write results, as columns.
class StorageColumns {
 public:
  explicit StorageColumns(columns::StorageRows rows) : rows_(std::move(rows)) {}
  // Not copyable: the index points into the rows.
  StorageColumns(const StorageColumns&) = delete;
  StorageColumns& operator=(const StorageColumns&) = delete;

  const columns::StorageRows& rows() const { return rows_; }
  std::size_t size() const { return rows_.size(); }

  /// Returns the row of a MetadataIndex, or -1 if there is none. Returns nothing if `key` is not a
  /// plain MetadataIndex.
  std::optional<std::int64_t> find(const py::object& key) const;

  /// Returns the row of a key, or nothing. `chunk_index` is a hint, or kNoChunkIndex.
  std::optional<std::size_t> row_of(const columns::StorageKey& key, std::int64_t chunk_index) const;

  /// Creates the MetadataIndex of a row.
  py::object key(std::size_t row) const;
  /// Creates the _StorageInfo of a row.
  py::object location(std::size_t row) const;

  /// Returns (MetadataIndex, _StorageInfo) of every row.
  ///
  /// made: row -> the existing _StorageInfo to use
  py::list pairs(const py::dict& made) const;

  /// Materializes the rows as WriteResults.
  py::list results() const;

  /// Returns a dict of path -> end of its last row in bytes.
  py::dict file_sizes() const;

  /// Returns true if a _StorageInfo equals its row.
  bool matches(std::size_t row, const py::object& location) const;

 private:
  const py::object& text(std::vector<py::object>& made, const util::TextTable& texts,
                         std::uint32_t number) const;

  columns::StorageRows rows_;
  mutable std::unique_ptr<columns::StorageIndex> index_;
  mutable std::vector<py::object> names_;
  mutable std::vector<py::object> paths_;
};

/// The write results of a rank, as columns.
struct SavedResults {
  std::shared_ptr<StorageColumns> columns;
};

/// Reads a list of WriteResults. Returns nothing if one does not fit a row.
std::optional<columns::StorageRows> read_results(const py::object& list);

/// Reads a dict of MetadataIndex -> _StorageInfo. Returns nothing if an item does not fit a row.
std::optional<columns::StorageRows> read_storage_data(const py::dict& storage_data);

/// Reads a dict of MetadataIndex -> _HFStorageInfo, whose rows have a path alone. Returns nothing
/// if an item does not fit a row.
std::optional<columns::StorageRows> read_hf_storage_data(const py::dict& storage_data);

}  // namespace shardplan::bindings
