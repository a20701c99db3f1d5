#include "bindings/torch/wire/load_wire.h"

#include "bindings/torch/columns/read_item_reader.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "bindings/torch/wire/unreadable_plan.h"
#include "core/wire/load_plan.h"

namespace shardplan::bindings {
namespace {

std::optional<PackedLoadPlan> pack(const LoadPlanColumns& columns) {
  std::vector<std::string> names;
  for (const py::object& name : columns.tables.names) {
    const auto text = utf8(name.ptr());
    if (!text) return std::nullopt;
    names.emplace_back(*text);
  }
  const std::optional<std::string> table = wire::write_read_names(names);
  const std::optional<std::string> rows = wire::write_reads(columns.rows);
  if (!table || !rows) return std::nullopt;
  PackedLoadPlan packed;
  packed.bytes = py::bytes(
      wire::seal(wire::WireKind::kLoadPlan, kRelease, {columns.rows.size(), *table, *rows}));
  for (const py::object& item : columns.tables.objects) packed.objects.append(item);
  return packed;
}

LoadPlanColumns unpack(const wire::Envelope& contents, const py::object& objects) {
  wire::NamedReads received = wire::read_reads(contents.table, contents.rows, contents.items);
  LoadPlanColumns columns;
  columns.rows = std::move(received.rows);
  for (const std::string& name : received.names) {
    columns.tables.names.push_back(text_from_utf8(name));
  }
  for (const py::handle item : objects) {
    columns.tables.objects.push_back(py::reinterpret_borrow<py::object>(item));
  }
  std::size_t object_rows = 0;
  for (const columns::ReadKind kind : columns.rows.kind)
    object_rows += kind == columns::ReadKind::kObject ? 1 : 0;
  if (object_rows != columns.tables.objects.size())
    throw wire::BadWire("has " + std::to_string(columns.tables.objects.size()) + " items for " +
                        std::to_string(object_rows) + " object rows");
  return columns;
}

}  // namespace

ReceivedLoadPlan::ReceivedLoadPlan(py::bytes bytes, py::object objects)
    : ReceivedBytes(wire::WireKind::kLoadPlan, std::move(bytes)), objects_(std::move(objects)) {
  if (!PyList_CheckExact(objects_.ptr())) refuse("has no list of items");
}

const LoadPlanColumns& ReceivedLoadPlan::columns() {
  if (!columns_) {
    read([&](const wire::Envelope& contents) { columns_ = unpack(contents, objects_); });
  }
  if (columns_) return *columns_;
  throw UnreadablePlan("a load plan from another rank cannot be read: it " + problem());
}

std::optional<PackedLoadPlan> pack_load_plan(const py::object& items) {
  if (!PyList_Check(items.ptr())) return std::nullopt;
  if (!PyList_CheckExact(items.ptr())) {
    const py::object source = read_attribute(items.ptr(), UpstreamTypes::get().columns);
    if (source && py::isinstance<LoadPlanColumns>(source)) {
      return pack(source.cast<const LoadPlanColumns&>());
    }
    if (source && py::isinstance<ReceivedLoadPlan>(source)) {
      const auto& received = source.cast<const ReceivedLoadPlan&>();
      return PackedLoadPlan{received.bytes(), received.objects()};
    }
    // A list subclass of a caller: its iterator decides what it contains.
    return pack(read_read_items(checked(PySequence_List(items.ptr()))));
  }
  return pack(read_read_items(items));
}

LoadPlanColumns load_columns_of(const py::object& items) {
  const py::object source = read_attribute(items.ptr(), UpstreamTypes::get().columns);
  if (source && py::isinstance<LoadPlanColumns>(source)) {
    return source.cast<const LoadPlanColumns&>();
  }
  if (source && py::isinstance<ReceivedLoadPlan>(source)) {
    return source.cast<ReceivedLoadPlan&>().columns();
  }
  return read_read_items(checked(PySequence_List(items.ptr())));
}

}  // namespace shardplan::bindings
