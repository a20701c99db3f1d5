#include "bindings/torch/metadata/metadata_file.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "bindings/common/pickle_source.h"
#include "bindings/torch/metadata/pickle_objects.h"
#include "bindings/torch/upstream/object_reader.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "core/metadata/metadata_reader.h"
#include "core/pickle/opcodes.h"

namespace shardplan::bindings {
namespace {

/// The classes and names of every record, where `keep` puts them.
constexpr metadata::MetadataMemo kMemo{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/// The entries of a pickled Metadata, its objects made where they are no columns.
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
    // Other threads run meanwhile; objects are made afterwards.
    const py::gil_scoped_release unlocked;
    return pickle::read_pickle(source_of(readinto));
  }();
  const CollectorPause pause;
  const auto texts = std::make_shared<const util::TextTable>(std::move(pickle.values.texts));
  PickleObjects objects(pickle.values, *texts);
  objects.check_texts();
  std::optional<metadata::PickledMetadata> read = metadata::read_pickled_metadata(pickle, texts);
  if (!read) return objects.object(pickle.root);

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

MetadataPickle::MetadataPickle(const py::object& write)
    : out_([write](std::string_view bytes) {
        const py::gil_scoped_acquire lock;
        write(py::bytes(bytes.data(), bytes.size()));
      }) {}

std::vector<bool> MetadataPickle::named_classes(const SavedMetadata* saved,
                                                const StorageColumns* storage) {
  bool tensors = false;
  bool bytes = false;
  if (saved != nullptr) {
    const columns::EntrySpecs& specs = saved->chunks.table.specs;
    tensors = std::ranges::any_of(specs.kind, columns::writes_tensor);
    bytes = std::ranges::count(specs.kind, columns::WriteKind::kBytes) > 0;
  }
  const bool locations = storage != nullptr && storage->size() > 0;
  const auto has_offset = [](std::uint8_t ndim) { return ndim != columns::StorageRows::kNoOffset; };
  const bool sizes =
      tensors || (locations && std::ranges::any_of(storage->rows().ndim, has_offset));
  const bool chunks = saved != nullptr && saved->chunks.begin.back() > 0;
  return {sizes, chunks, tensors, bytes, locations, locations};
}

void MetadataPickle::keep(const std::vector<py::bytes>& pickles) {
  for (const py::bytes& pickle : pickles) {
    raw(pickle);
    out_.code(pickle::opcode::kMemoize);
    out_.code(pickle::opcode::kPop);
    ++kept_;
  }
}

void MetadataPickle::keep_text(std::string_view text) {
  out_.text(text);
  out_.code(pickle::opcode::kMemoize);
  out_.code(pickle::opcode::kPop);
  out_.flush_if_full();
  ++kept_;
}

std::size_t MetadataPickle::keep_texts(const SavedMetadata* saved, const StorageColumns* storage) {
  const std::uint32_t before = kept_;
  first_entry_ = kept_;
  if (saved != nullptr) {
    for (const py::object& name : saved->names) keep_text(*utf8(name.ptr()));
  }
  first_name_ = kept_;
  if (storage != nullptr) {
    const columns::StorageRows& rows = storage->rows();
    for (std::size_t name = 0; name < rows.names->size(); ++name) keep_text((*rows.names)[name]);
    first_path_ = kept_;
    for (std::size_t path = 0; path < rows.paths->size(); ++path) keep_text((*rows.paths)[path]);
  }
  return kept_ - before;
}

void MetadataPickle::entries(const SavedMetadata& saved, const std::vector<py::bytes>& properties,
                             const std::vector<py::bytes>& objects) {
  metadata::EntryPickles pickles;
  pickles.first_name = first_entry_;
  for (const py::bytes& pickle : properties) pickles.properties.emplace_back(pickle);
  std::vector<std::string> of_objects;
  for (const py::bytes& pickle : objects) of_objects.emplace_back(pickle);
  std::size_t next = 0;
  pickles.objects = [&](std::size_t) { return of_objects.at(next++); };
  const py::gil_scoped_release unlocked;
  metadata::write_entries(out_, kMemo, saved.chunks, pickles);
}

void MetadataPickle::storage(const StorageColumns& storage) {
  const py::gil_scoped_release unlocked;
  metadata::write_storage(out_, kMemo, storage.rows(), first_name_, first_path_);
}

}  // namespace shardplan::bindings
