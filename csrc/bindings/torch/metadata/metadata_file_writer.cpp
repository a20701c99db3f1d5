#include "bindings/torch/metadata/metadata_file_writer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/torch/metadata/saved_metadata.h"
#include "bindings/torch/metadata/storage_columns.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "core/metadata/metadata_writer.h"
#include "core/pickle/frames.h"
#include "core/pickle/opcodes.h"

namespace shardplan::bindings {
namespace {

/// Returns the value of type T that is behind an attribute, or null.
template <typename T>
std::shared_ptr<T> find(const py::dict& state, const char* name) {
  if (!state.contains(name)) return nullptr;
  const py::object value = state[name];
  return py::isinstance<T>(value) ? value.cast<std::shared_ptr<T>>() : nullptr;
}

class MetadataFileWriter {
 public:
  MetadataFileWriter(const py::object& write, const py::dict& state, py::object make_pickler)
      : make_pickler_(std::move(make_pickler)),
        push_alone_(make_pickler_(py::list(), true)),
        saved_(find<SavedMetadata>(state, "state_dict_metadata")),
        storage_(find<StorageColumns>(state, "storage_data")),
        out_([write](std::string_view bytes) {
          const py::gil_scoped_acquire lock;
          write(py::bytes(bytes.data(), bytes.size()));
        }) {}

  /// Memoizes what records refer to. The order of the slots is that of the calls here.
  void memoize(const py::object& property_parts) {
    memoize_classes();
    memoize_names();
    py::list properties;
    if (saved_) {
      for (const PropertyValues& row : saved_->properties) properties.append(make_properties(row));
    }
    for (const py::handle part : property_parts(properties)) memoize(part);
    const py::object push_properties = make_pickler_(memoized_, true);
    for (const py::handle row : properties) {
      entries_.properties.push_back(opcodes(push_properties, row));
    }
    memoize_texts();
  }

  void write(const py::dict& state) {
    const py::object push = make_pickler_(memoized_, false);
    const py::object cls =
        py::module_::import("torch.distributed.checkpoint.metadata").attr("Metadata");
    out_.raw(opcodes(push_alone_, cls));
    for (const std::uint8_t code : {pickle::opcode::kEmptyTuple, pickle::opcode::kNewObj,
                                    pickle::opcode::kEmptyDict, pickle::opcode::kMark}) {
      out_.code(code);
    }
    for (const auto& [name, value] : state) {
      out_.raw(opcodes(push, name));
      if (py::isinstance<SavedMetadata>(value)) {
        write_entries(push);
      } else if (py::isinstance<StorageColumns>(value)) {
        const py::gil_scoped_release unlocked;
        metadata::write_storage(out_, memo_, storage_->rows(), first_name_, first_path_);
      } else {
        out_.raw(opcodes(push, value));
      }
    }
    out_.code(pickle::opcode::kSetItems);
    out_.code(pickle::opcode::kBuild);
    out_.stop();
  }

 private:
  /// Returns the opcodes that push a value.
  static std::string opcodes(const py::object& push, py::handle value) {
    const auto bytes = push(value).cast<py::bytes>();
    return pickle::without_frames(std::string_view(bytes));
  }

  std::uint32_t memoize(py::handle value) {
    out_.raw(opcodes(push_alone_, value));
    return end_slot(py::reinterpret_borrow<py::object>(value));
  }

  /// Moves the value on the stack into the next slot of the memo.
  std::uint32_t end_slot(const py::object& value) {
    out_.code(pickle::opcode::kMemoize);
    out_.code(pickle::opcode::kPop);
    out_.flush_if_full();
    memoized_.append(value);
    return static_cast<std::uint32_t>(memoized_.size() - 1);
  }

  /// Memoizes the classes that records have; the file must not name any other.
  void memoize_classes() {
    const UpstreamTypes& types = UpstreamTypes::get();
    const metadata::RecordClasses used = metadata::classes_of(
        saved_ ? &saved_->chunks : nullptr, storage_ ? &storage_->rows() : nullptr);
    const auto add = [&](bool is_used, PyTypeObject* type, std::uint32_t& slot) {
      if (is_used) slot = memoize(reinterpret_cast<PyObject*>(type));
    };
    add(used.size, types.torch_size, memo_.size_class);
    add(used.chunk, types.chunk.type, memo_.chunk_class);
    add(used.tensor, types.tensor_metadata, memo_.tensor_class);
    add(used.bytes, types.bytes_metadata, memo_.bytes_class);
    add(used.index, types.metadata_index.type, memo_.index_class);
    add(used.location, types.storage_info.type, memo_.location_class);
  }

  void memoize_names() {
    const UpstreamTypes& types = UpstreamTypes::get();
    const std::pair<PyObject*, std::uint32_t*> names[] = {
        {types.offsets, &memo_.offsets},
        {types.sizes, &memo_.sizes},
        {types.properties, &memo_.properties},
        {types.size, &memo_.size},
        {types.chunks, &memo_.chunks},
        {types.fqn, &memo_.fqn},
        {types.index, &memo_.index},
        {types.offset, &memo_.offset},
        {types.relative_path, &memo_.relative_path},
        {types.length, &memo_.length},
    };
    for (const auto& [name, slot] : names) *slot = memoize(name);
  }

  /// Memoizes keys and paths. Only native records refer to them, so the picklers get a placeholder
  /// for each, which no value of theirs is.
  void memoize_texts() {
    const auto add = [&](std::string_view text) {
      out_.text(text);
      return end_slot(
          checked(PyObject_CallNoArgs(reinterpret_cast<PyObject*>(&PyBaseObject_Type))));
    };
    entries_.first_name = static_cast<std::uint32_t>(memoized_.size());
    if (saved_) {
      for (const py::object& name : saved_->names) add(*utf8(name.ptr()));
    }
    if (!storage_) return;
    const columns::StorageRows& rows = storage_->rows();
    first_name_ = static_cast<std::uint32_t>(memoized_.size());
    for (std::size_t name = 0; name < rows.names->size(); ++name) add((*rows.names)[name]);
    first_path_ = static_cast<std::uint32_t>(memoized_.size());
    for (std::size_t path = 0; path < rows.paths->size(); ++path) add((*rows.paths)[path]);
  }

  void write_entries(const py::object& push) {
    std::size_t next = 0;
    entries_.objects = [&](std::size_t) {
      const py::gil_scoped_acquire lock;
      return opcodes(push, saved_->objects.at(next++));
    };
    const py::gil_scoped_release unlocked;
    metadata::write_entries(out_, memo_, saved_->chunks, entries_);
  }

  py::object make_pickler_;
  py::object push_alone_;  // pickles a value without a memo
  std::shared_ptr<SavedMetadata> saved_;
  std::shared_ptr<StorageColumns> storage_;
  pickle::Writer out_;
  py::list memoized_;  // the object in each slot of the memo
  metadata::MetadataMemo memo_;
  metadata::EntryPickles entries_;
  std::uint32_t first_name_ = 0;
  std::uint32_t first_path_ = 0;
};

}  // namespace

void write_metadata(const py::object& write, const py::dict& state, const py::object& make_pickler,
                    const py::object& property_parts) {
  MetadataFileWriter file(write, state, make_pickler);
  file.memoize(property_parts);
  file.write(state);
}

}  // namespace shardplan::bindings
