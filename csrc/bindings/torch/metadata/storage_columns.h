#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/columns/storage_rows.h"

namespace shardplan::bindings {

/// A `storage_data`, or a rank's write results, as columns.
class StorageColumns {
 public:
  explicit StorageColumns(columns::StorageRows rows) : rows_(std::move(rows)) {}
  // The index points into the rows.
  StorageColumns(const StorageColumns&) = delete;
  StorageColumns& operator=(const StorageColumns&) = delete;

  const columns::StorageRows& rows() const { return rows_; }
  std::size_t size() const { return rows_.size(); }

  /// The row whose key equals a MetadataIndex, or -1; nothing where `key` is no plain one.
  std::optional<std::int64_t> find(const py::object& key) const;

  /// A row's MetadataIndex and _StorageInfo, made anew.
  py::object key(std::size_t row) const;
  py::object location(std::size_t row) const;

  /// The keys of all rows, and the places; `made`: row -> place that exists.
  py::list pairs(const py::dict& made) const;

  /// The rows as upstream WriteResults.
  py::list results() const;

  /// Whether a place says what its row says.
  bool says(std::size_t row, const py::object& location) const;

 private:
  const py::object& text(std::vector<py::object>& made, const util::TextTable& texts,
                         std::uint32_t number) const;

  columns::StorageRows rows_;
  mutable std::unique_ptr<columns::StorageIndex> index_;
  mutable std::vector<py::object> names_;
  mutable std::vector<py::object> paths_;
};

/// Reads a list of upstream WriteResults; nothing where one says more than a row can.
std::optional<columns::StorageRows> read_results(const py::object& list);

/// Reads a dict of upstream MetadataIndex -> _StorageInfo; nothing where one says more than a row
/// can.
std::optional<columns::StorageRows> read_storage_data(const py::dict& storage_data);

}  // namespace shardplan::bindings
