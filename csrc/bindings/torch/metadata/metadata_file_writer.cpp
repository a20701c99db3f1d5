#include "bindings/torch/metadata/metadata_file_writer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "bindings/torch/metadata/kept_plans.h"
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

/// Returns the plans among the attributes of a Metadata.
std::vector<std::shared_ptr<KeptPlans>> kept_plans_of(const py::dict& state) {
  std::vector<std::shared_ptr<KeptPlans>> found;
  for (const auto& [name, value] : state) {
    if (py::isinstance<KeptPlans>(value)) found.push_back(value.cast<std::shared_ptr<KeptPlans>>());
  }
  return found;
}

class MetadataFileWriter {
 public:
  MetadataFileWriter(const py::object& write, const py::dict& state, py::object make_pickler)
      : make_pickler_(std::move(make_pickler)),
        push_alone_(make_pickler_(py::list(), true)),
        saved_(find<SavedMetadata>(state, "state_dict_metadata")),
        storage_(find<StorageColumns>(state, "storage_data")),
        plans_(kept_plans_of(state)),
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
    each_table([&](const PlanTable& table, TableSlots&) {
      for (const PropertyValues& row : table.properties) properties.append(make_properties(row));
    });
    for (const py::handle part : property_parts(properties)) memoize(part);
    const py::object push_properties = make_pickler_(memoized_, true);
    std::size_t next = 0;
    const auto take = [&](std::size_t count, std::vector<std::string>& rows) {
      for (std::size_t end = next + count; next < end; ++next) {
        rows.push_back(opcodes(push_properties, properties[next]));
      }
    };
    if (saved_) take(saved_->properties.size(), entries_.properties);
    each_table([&](const PlanTable& table, TableSlots& slots) {
      take(table.properties.size(), slots.properties);
    });
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
      } else if (py::isinstance<KeptPlans>(value)) {
        write_plans(push, value.cast<const KeptPlans&>());
      } else {
        out_.raw(opcodes(push, value));
      }
    }
    out_.code(pickle::opcode::kSetItems);
    out_.code(pickle::opcode::kBuild);
    out_.stop();
  }

 private:
  /// What the items of plans with one table refer to.
  struct TableSlots {
    std::vector<std::uint32_t> names;     // per name: its memo slot
    std::vector<std::string> properties;  // per property row: its TensorProperties, as opcodes
  };

  /// Calls `visit(table, slots)` for each table of the plans, in order.
  template <typename Visit>
  void each_table(Visit&& visit) {
    std::unordered_set<const PlanTable*> seen;
    for (const auto& kept : plans_) {
      for (const auto& columns : kept->items) {
        const PlanTable* table = columns->table.get();
        if (seen.insert(table).second) visit(*table, tables_[table]);
      }
    }
  }

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
    std::vector<columns::SavePlanView> plans;
    for (const auto& kept : plans_) {
      for (const auto& columns : kept->items) plans.push_back(columns->view());
    }
    const metadata::RecordClasses used = metadata::classes_of(
        saved_ ? &saved_->chunks : nullptr, storage_ ? &storage_->rows() : nullptr, plans);
    const auto add = [&](bool is_used, PyTypeObject* type, std::uint32_t& slot) {
      if (is_used) slot = memoize(reinterpret_cast<PyObject*>(type));
    };
    add(used.size, types.torch_size, memo_.size_class);
    add(used.chunk, types.chunk.type, memo_.chunk_class);
    add(used.tensor, types.tensor_metadata, memo_.tensor_class);
    add(used.bytes, types.bytes_metadata, memo_.bytes_class);
    add(used.index, types.metadata_index.type, memo_.index_class);
    add(used.location, types.storage_info.type, memo_.location_class);
    add(used.plan, types.save_plan, memo_.plan_class);
    add(used.item, types.write_item.type, memo_.item_class);
    add(used.data, types.tensor_write_data.type, memo_.data_class);
    const std::pair<columns::WriteKind, PyObject*> kinds[] = {
        {columns::WriteKind::kBytes, types.write_bytes},
        {columns::WriteKind::kTensor, types.write_tensor},
        {columns::WriteKind::kShard, types.write_shard},
    };
    for (const auto& [kind, member] : kinds) {
      if (used.write(kind)) memo_.writes[static_cast<std::size_t>(kind)] = memoize(member);
    }
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
        {types.type, &memo_.type},
        {types.bytes_io_data, &memo_.bytes_io_data},
        {types.tensor_data, &memo_.tensor_data},
        {types.chunk_name, &memo_.chunk},
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
    std::unordered_map<std::string_view, std::uint32_t> slots;
    const auto add_name = [&](std::string_view name) { slots.try_emplace(name, add(name)); };
    entries_.first_name = static_cast<std::uint32_t>(memoized_.size());
    if (saved_) {
      for (const py::object& name : saved_->names) add_name(*utf8(name.ptr()));
    }
    if (storage_) {
      const columns::StorageRows& rows = storage_->rows();
      first_name_ = static_cast<std::uint32_t>(memoized_.size());
      for (std::size_t name = 0; name < rows.names->size(); ++name) add_name((*rows.names)[name]);
      first_path_ = static_cast<std::uint32_t>(memoized_.size());
      for (std::size_t path = 0; path < rows.paths->size(); ++path) add((*rows.paths)[path]);
    }
    each_table([&](const PlanTable& table, TableSlots& of_table) {
      for (const py::object& name : table.names) {
        const std::string_view text = *utf8(name.ptr());
        if (!slots.contains(text)) add_name(text);
        of_table.names.push_back(slots.at(text));
      }
    });
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

  void write_plans(const py::object& push, const KeptPlans& kept) {
    out_.code(pickle::opcode::kEmptyList);
    const auto write = [&](std::size_t at) {
      metadata::write_object(out_, memo_.plan_class);
      metadata::begin_state(out_);
      const py::dict state = kept.plans[at].attr("__dict__");
      for (const auto& [name, value] : state) {
        out_.raw(opcodes(push, name));
        if (PyUnicode_CompareWithASCIIString(name.ptr(), "items") == 0) {
          write_items(*kept.items[at]);
        } else {
          out_.raw(opcodes(push, value));
        }
      }
      metadata::end_state(out_);
    };
    metadata::fill(out_, kept.plans.size(), pickle::opcode::kAppends, write);
  }

  void write_items(const SavePlanColumns& columns) {
    const TableSlots& slots = tables_.at(columns.table.get());
    const py::gil_scoped_release unlocked;
    metadata::write_items(out_, memo_, columns.view(), slots.names, slots.properties);
  }

  py::object make_pickler_;
  py::object push_alone_;  // pickles a value without a memo
  std::shared_ptr<SavedMetadata> saved_;
  std::shared_ptr<StorageColumns> storage_;
  std::vector<std::shared_ptr<KeptPlans>> plans_;  // of every attribute that holds plans
  std::unordered_map<const PlanTable*, TableSlots> tables_;
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
