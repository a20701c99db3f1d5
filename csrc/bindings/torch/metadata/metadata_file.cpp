#include "bindings/torch/metadata/metadata_file.h"

#include <memory>
#include <optional>
#include <utility>

#include "bindings/common/pickle_source.h"
#include "bindings/torch/metadata/kept_plans.h"
#include "bindings/torch/metadata/pickle_objects.h"
#include "bindings/torch/metadata/saved_metadata.h"
#include "bindings/torch/metadata/storage_columns.h"
#include "bindings/torch/upstream/object_reader.h"
#include "core/metadata/metadata_reader.h"

namespace shardplan::bindings {
namespace {

/// Returns the entries of a pickled Metadata, or null if a TensorProperties cannot be read. Creates
/// the objects that are not in columns.
std::shared_ptr<SavedMetadata> saved_of(metadata::PickledMetadata& read, PickleObjects& objects) {
  auto saved = std::make_shared<SavedMetadata>();
  for (const pickle::Value properties : read.properties) {
    PropertyValues values;
    if (!read_properties(objects.object(properties).ptr(), values)) return nullptr;
    saved->properties.push_back(std::move(values));
  }
  columns::SaveTable& table = read.chunks.table;
  for (std::size_t entry = 0; entry < read.chunks.size(); ++entry) {
    const auto& [key, value] = read.entries[entry];
    if (table.specs.kind[table.spec[entry]] == columns::WriteKind::kObject) {
      saved->objects.push_back(objects.object(value));
    }
    saved->names.push_back(objects.object(key));
    table.name[entry] = static_cast<std::uint32_t>(entry);
  }
  saved->chunks = std::move(read.chunks);
  return saved;
}

}  // namespace

py::object load_metadata(const py::object& readinto, const py::object& fill,
                         const py::object& locations) {
  pickle::Pickle pickle = [&] {
    // Other threads can run while the pickle is read. Objects are created afterwards.
    const py::gil_scoped_release unlocked;
    return pickle::read_pickle(source_of(readinto));
  }();
  const CollectorPause pause;
  const auto texts = std::make_shared<const util::TextTable>(std::move(pickle.values.texts));
  PickleObjects objects(pickle.values, *texts);
  objects.check_texts();
  std::optional<metadata::PickledMetadata> read = metadata::read_pickled_metadata(pickle, texts);
  if (!read) return objects.object(pickle.root);

  make_lazy_items(pickle, *texts, objects, fill);
  const py::object metadata = objects.bare(pickle.root);
  for (const auto& [name, value] : read->attributes) {
    const std::string_view attribute = (*texts)[name.at()];
    py::object made;
    if (attribute == "storage_data" && read->storage) {
      made = locations(std::make_shared<StorageColumns>(std::move(*read->storage)));
    } else if (attribute == "state_dict_metadata" && read->has_chunks) {
      if (const auto saved = saved_of(*read, objects)) made = SavedMetadata::entries(saved, fill);
    }
    objects.set(metadata, name, made ? made : objects.object(value));
  }
  return metadata;
}

}  // namespace shardplan::bindings
