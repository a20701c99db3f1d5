#include "bindings/torch/wire/save_wire.h"

#include <algorithm>
#include <map>

#include "bindings/torch/columns/write_item_reader.h"
#include "bindings/torch/wire/unreadable_plan.h"
#include "core/wire/save_plan.h"

namespace shardplan::bindings {
namespace {

bool has_objects(const SavePlanColumns& columns) {
  return std::ranges::count(columns.table->columns.specs.kind, columns::WriteKind::kObject) > 0;
}

/// A plan in which each row that is sent as an object has its own kObject entry.
struct Mixed {
  PlanTable table;
  columns::SaveRows rows;
  std::vector<std::int64_t> chunk_indices;
  py::list objects;

  columns::SavePlanView view() const {
    return {&table.columns, &rows, nullptr, chunk_indices.empty() ? nullptr : &chunk_indices};
  }
};

bool sent_as_object(const SavePlanColumns& columns, std::size_t position,
                    const std::vector<bool>& unsendable) {
  const columns::SavePlanView view = columns.view();
  const columns::WriteKind kind = view.kind(position);
  if (kind == columns::WriteKind::kObject || columns.rows->is_object(view.row(position)))
    return true;
  return columns::writes_tensor(kind) && !unsendable.empty() &&
         unsendable[view.table->specs.properties[view.spec(position)]];
}

bool any_object(const SavePlanColumns& columns, const std::vector<bool>& unsendable) {
  if (columns.rows->objects.empty() && std::ranges::count(unsendable, true) == 0) return false;
  for (std::size_t position = 0; position < columns.size(); ++position) {
    if (sent_as_object(columns, position, unsendable)) return true;
  }
  return false;
}

Mixed mix(SavePlanColumns& columns, const std::vector<bool>& unsendable) {
  Mixed mixed;
  columns::SaveTable& table = mixed.table.columns;
  const columns::SavePlanView view = columns.view();
  std::map<std::uint32_t, std::uint32_t> properties;
  for (std::size_t position = 0; position < view.size(); ++position) {
    const columns::WriteKind kind = view.kind(position);
    const std::uint32_t row = view.table->specs.properties[view.spec(position)];
    if (sent_as_object(columns, position, unsendable)) {
      mixed.objects.append(columns.item_at(position));
      table.specs.push(columns::WriteKind::kObject, 0, {});
    } else if (!columns::writes_tensor(kind)) {
      table.specs.push(kind, 0, {});
    } else {
      const auto [known, is_new] =
          properties.try_emplace(row, static_cast<std::uint32_t>(properties.size()));
      if (is_new) mixed.table.properties.push_back(columns.table->properties[row]);
      table.specs.push(kind, known->second, view.shape(position));
    }
    table.spec.push_back(static_cast<std::uint32_t>(position));
    table.name.push_back(static_cast<std::uint32_t>(position));
    mixed.table.names.push_back(py::reinterpret_borrow<py::object>(columns.name(position)));
    const std::size_t ndim = table.specs.ndim[position];
    std::copy_n(view.numbers(position), 2 * ndim,
                mixed.rows.push(static_cast<std::uint32_t>(position), ndim));
    if (view.chunk_indices != nullptr) mixed.chunk_indices.push_back(view.chunk_index(position));
  }
  return mixed;
}

PackedSavePlan sealed(std::string_view table, const columns::SavePlanView& view) {
  const std::string rows = wire::write_rows(view);
  PackedSavePlan packed;
  packed.bytes =
      py::bytes(wire::seal(wire::WireKind::kSavePlan, kRelease, {view.size(), table, rows}));
  return packed;
}

}  // namespace

ReceivedSavePlan::ReceivedSavePlan(py::bytes bytes, py::object objects)
    : ReceivedBytes(wire::WireKind::kSavePlan, std::move(bytes)), objects_(std::move(objects)) {
  if (!PyList_CheckExact(objects_.ptr())) refuse("has no list of items");
}

void ReceivedSavePlan::decode() {
  if (columns_) return;
  if (!read([&](const wire::Envelope& contents) { decode(contents); })) fail();
}

py::dict ReceivedSavePlan::mappings() {
  decode();
  py::dict mappings;
  if (!read([&](const wire::Envelope&) { mappings = table_->mappings(); })) fail();
  return mappings;
}

void ReceivedSavePlan::fail() const {
  throw UnreadablePlan("a save plan from another rank cannot be read: it " + problem());
}

void ReceivedSavePlan::decode(const wire::Envelope& contents) {
  auto columns = std::make_shared<SavePlanColumns>();
  columns->table = table_from_wire(contents.table);
  wire::ReceivedRows received =
      wire::read_rows(contents.rows, contents.items, columns->table->columns);
  columns->rows = std::make_shared<PlanRows>();
  columns->rows->columns = std::move(received.rows);
  if (!received.chunk_indices.empty()) {
    columns->chunk_indices =
        std::make_shared<const std::vector<std::int64_t>>(std::move(received.chunk_indices));
  }
  table_ = columns->table;
  const bool plain = !has_objects(*columns) && PyList_GET_SIZE(objects_.ptr()) == 0;
  columns_ = plain ? std::move(columns) : with_items(*columns, objects_);
  release();
}

std::optional<PackedSavePlan> pack_save_plan(const py::object& items, const py::object& mappings,
                                             ReceivedSavePlan* mapped_by) {
  auto columns = save_columns_of(items);
  if (!columns) return std::nullopt;
  columns = up_to_date(columns);
  // Columns would copy objects that items share; a pickle of the items keeps them shared.
  if (columns->rows->shared) return std::nullopt;
  const std::shared_ptr<const PlanTable> table = columns->table;
  const bool same_mappings =
      mapped_by != nullptr ? mapped_by->table() == table : mappings.is_none();
  if (same_mappings && !table->bytes.empty() && !any_object(*columns, {})) {
    PackedSavePlan packed = sealed(table->bytes, columns->view());
    packed.mapped = mapped_by != nullptr;
    return packed;
  }
  const py::object paths = mapped_by != nullptr ? mapped_by->mappings() : mappings;
  std::vector<bool> unsendable;
  bool mapped = false;
  std::optional<std::string> bytes = table_to_wire(*table, paths, mapped, unsendable);
  std::optional<PackedSavePlan> packed;
  if (any_object(*columns, unsendable)) {
    const Mixed mixed = mix(*columns, unsendable);
    unsendable.clear();
    bytes = table_to_wire(mixed.table, paths, mapped, unsendable);
    if (!bytes) return std::nullopt;
    packed = sealed(*bytes, mixed.view());
    packed->objects = mixed.objects;
  } else {
    if (!bytes) return std::nullopt;
    packed = sealed(*bytes, columns->view());
  }
  packed->mapped = mapped;
  return packed;
}

}  // namespace shardplan::bindings
