#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bindings/torch/metadata/saved_metadata.h"
#include "bindings/torch/metadata/storage_columns.h"

namespace shardplan::bindings {

/// A state_dict_metadata as it travels.
struct PackedMetadata {
  py::bytes bytes;
  py::list objects;  // values that travel as objects
};

/// Nothing where it has to travel as an upstream one.
std::optional<PackedMetadata> pack_saved_metadata(const py::dict& entries);

/// Storage rows as they travel; nothing where they have to travel as upstream objects.
std::optional<py::bytes> pack_storage(const columns::StorageRows& rows);

/// A state_dict_metadata as it arrived; decoded when it is first needed.
class ReceivedMetadata {
 public:
  /// Never throws for what the bytes hold: that is said at first use.
  ReceivedMetadata(py::bytes bytes, py::object objects)
      : bytes_(std::move(bytes)), objects_(std::move(objects)) {}

  /// The dict in upstream classes. Throws ValueError where the bytes are broken.
  py::dict entries(const py::object& fill) const;

 private:
  py::bytes bytes_;
  py::object objects_;
};

/// A storage_data, or a rank's write results, as it arrived; decoded when it is first needed.
class ReceivedStorage {
 public:
  /// Never throws for what the bytes hold: that is said at first use.
  explicit ReceivedStorage(py::bytes bytes);

  /// Number of rows; 1 where the bytes are broken, so that nobody takes them for none.
  std::size_t size() const { return problem_.empty() ? items_ : 1; }

  /// Throws ValueError where the bytes are broken.
  std::shared_ptr<StorageColumns> columns();

  const py::bytes& bytes() const { return bytes_; }

 private:
  py::bytes bytes_;
  std::size_t items_ = 0;
  std::string problem_;
  std::shared_ptr<StorageColumns> columns_;
};

}  // namespace shardplan::bindings
