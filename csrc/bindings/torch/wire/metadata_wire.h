#pragma once

#include <memory>
#include <optional>

#include "bindings/torch/metadata/saved_metadata.h"
#include "bindings/torch/metadata/storage_columns.h"
#include "bindings/torch/wire/received_bytes.h"

namespace shardplan::bindings {

/// An encoded `state_dict_metadata`.
struct PackedMetadata {
  py::bytes bytes;
  py::list objects;  // the values of object rows, in the order of the rows
};

/// Returns nothing if the dict has to be sent as upstream's objects.
std::optional<PackedMetadata> pack_saved_metadata(const py::dict& entries);

/// Encodes storage rows. Returns nothing if they have to be sent as upstream's objects.
std::optional<py::bytes> pack_storage(const columns::StorageRows& rows);

/// A `state_dict_metadata` that was received; decoded when it is first used.
class ReceivedMetadata : public ReceivedBytes {
 public:
  /// bytes, objects: those of a PackedMetadata
  ReceivedMetadata(py::bytes bytes, py::object objects)
      : ReceivedBytes(wire::WireKind::kSavedChunks, std::move(bytes)),
        objects_(std::move(objects)) {}

  /// The dict in upstream's classes. Throws ValueError if the bytes are broken.
  ///
  /// fill(columns): a lazy list of the chunks of a tensor
  py::dict entries(const py::object& fill);

 private:
  py::object objects_;
};

/// A `storage_data`, or the write results of a rank, that was received; decoded when it is first
/// used.
class ReceivedStorage : public ReceivedBytes {
 public:
  /// bytes: those of `pack_storage`
  explicit ReceivedStorage(py::bytes bytes)
      : ReceivedBytes(wire::WireKind::kStorage, std::move(bytes)) {}

  /// Throws ValueError if the bytes are broken.
  std::shared_ptr<StorageColumns> columns();

 private:
  std::shared_ptr<StorageColumns> columns_;
};

}  // namespace shardplan::bindings
