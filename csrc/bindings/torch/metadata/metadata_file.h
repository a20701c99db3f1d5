#pragma once

#include <memory>
#include <vector>

#include "bindings/common/python_object.h"
#include "bindings/torch/metadata/saved_metadata.h"
#include "bindings/torch/metadata/storage_columns.h"
#include "core/metadata/metadata_writer.h"

namespace shardplan::bindings {

/// Reads what a metadata file holds, in upstream classes: of a Metadata, chunk lists are
/// `fill(ChunkColumns)` and the storage_data is `places(StorageColumns)`.
///
/// readinto(memoryview) -> int: as of a binary file
/// Throws UnknownGlobal, or BadPickle, and lets the error of `readinto` pass.
py::object load_metadata(const py::object& readinto, const py::object& fill,
                         const py::object& locations);

/// Writes the pickle of a Metadata, part by part, in the order of the calls.
class MetadataPickle {
 public:
  /// write(bytes): as of a binary file
  explicit MetadataPickle(const py::object& write);

  /// Whether the records name each class of MetadataMemo, in its order.
  static std::vector<bool> named_classes(const SavedMetadata* saved, const StorageColumns* storage);

  /// Keeps values in the memo, in order: `pickles` has the pickle of each. The first of them are
  /// the classes and attribute names of MetadataMemo, in its order.
  void keep(const std::vector<py::bytes>& pickles);

  /// Keeps names and paths in the memo; returns how many.
  std::size_t keep_texts(const SavedMetadata* saved, const StorageColumns* storage);

  /// Opcodes as they are, without frames.
  void raw(const py::bytes& opcodes) { out_.raw(std::string_view(opcodes)); }

  /// The state_dict_metadata: `properties` has the pickle of each row of properties, and `objects`
  /// that of each foreign entry.
  void entries(const SavedMetadata& saved, const std::vector<py::bytes>& properties,
               const std::vector<py::bytes>& objects);

  /// The storage_data.
  void storage(const StorageColumns& storage);

  void stop() { out_.stop(); }

 private:
  void keep_text(std::string_view text);

  pickle::Writer out_;
  std::uint32_t kept_ = 0;
  std::uint32_t first_entry_ = 0;
  std::uint32_t first_name_ = 0;
  std::uint32_t first_path_ = 0;
};

}  // namespace shardplan::bindings
