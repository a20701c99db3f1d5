#include "bindings/torch/columns/plan_table.h"

#include <algorithm>
#include <unordered_map>

#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "bindings/torch/wire/property_wire.h"
#include "core/planning/dedup.h"
#include "core/util/hash.h"
#include "core/wire/save_plan.h"

namespace shardplan::bindings {
namespace {

/// Numbers the names of a table. The names in its mappings come first.
class NameTable {
 public:
  bool add_mapped(PyObject* name, PyObject* path) {
    const auto text = utf8(name);
    const auto shape = text ? shape_of_path(*text, path) : std::nullopt;
    if (!shape) return false;
    add(name, *text);
    table_.shape_of_name.push_back(shape_index(*shape));
    return true;
  }

  /// Returns the number of a name; adds new names. Names usually come in order of their numbers.
  std::optional<std::uint32_t> number_of(PyObject* name) {
    const auto text = utf8(name);
    if (!text) return std::nullopt;
    if (next_ < objects_.size() && objects_[next_] == name) return next_++;
    index();
    const auto found = numbers_.find(*text);
    if (found == numbers_.end()) add(name, *text);
    const auto number =
        found == numbers_.end() ? static_cast<std::uint32_t>(objects_.size() - 1) : found->second;
    next_ = number + 1;
    return number;
  }

  wire::PlanNames take() { return std::move(table_); }

 private:
  void add(PyObject* name, std::string_view text) {
    objects_.push_back(name);
    table_.names.emplace_back(text);
  }

  void index() {
    for (; indexed_ < objects_.size(); ++indexed_) {
      numbers_.emplace(*utf8(objects_[indexed_]), static_cast<std::uint32_t>(indexed_));
    }
  }

  std::uint32_t shape_index(const wire::PathShape& shape) {
    const auto found = std::ranges::find(table_.shapes, shape);
    if (found == table_.shapes.end()) {
      table_.shapes.push_back(shape);
      return static_cast<std::uint32_t>(table_.shapes.size() - 1);
    }
    return static_cast<std::uint32_t>(found - table_.shapes.begin());
  }

  wire::PlanNames table_;
  std::vector<PyObject*> objects_;  // borrowed from the table and the mappings
  std::unordered_map<std::string_view, std::uint32_t> numbers_;
  std::size_t indexed_ = 0;
  std::uint32_t next_ = 0;
};

/// Returns a table with the names in the mappings, or nothing if one cannot be encoded.
std::optional<NameTable> with_mappings(const py::object& mappings) {
  NameTable names;
  PyObject* name = nullptr;
  PyObject* path = nullptr;
  Py_ssize_t at = 0;
  if (!PyDict_CheckExact(mappings.ptr())) return std::nullopt;
  while (PyDict_Next(mappings.ptr(), &at, &name, &path) != 0) {
    if (!names.add_mapped(name, path)) return std::nullopt;
  }
  return names;
}

std::shared_ptr<const PlanTable> read(std::string_view bytes) {
  wire::NamedTable received = wire::read_table(bytes);
  auto table = std::make_shared<PlanTable>();
  table->columns = std::move(received.table);
  for (const std::string& name : received.names.names) {
    table->names.push_back(text_from_utf8(name));
  }
  for (const std::string& row : received.properties) {
    table->properties.push_back(properties_from_wire(row));
  }
  table->bytes = bytes;
  table->shapes = std::move(received.names.shapes);
  table->shape_of_name = std::move(received.names.shape_of_name);
  return table;
}

}  // namespace

py::dict PlanTable::mappings() const {
  if (!mappings_) {
    const CollectorPause pause;
    py::dict made;
    for (std::size_t name = 0; name < shape_of_name.size(); ++name) {
      made[names[name]] = path_of(*utf8(names[name].ptr()), shapes[shape_of_name[name]]);
    }
    mappings_ = std::move(made);
  }
  return py::reinterpret_borrow<py::dict>(mappings_);
}

const std::vector<std::int64_t>& PlanTable::element_sizes() const {
  if (element_sizes_.size() != properties.size()) {
    const UpstreamTypes& types = UpstreamTypes::get();
    const auto dtype = std::ranges::find(types.property_fields, PropertyField::kDtype);
    const auto field = static_cast<std::size_t>(dtype - types.property_fields.begin());
    std::vector<std::int64_t> sizes;
    for (const PropertyValues& values : properties) {
      const auto size = py::reinterpret_steal<py::object>(
          PyObject_CallOneArg(types.element_size, values.at(field).ptr()));
      std::int64_t element_size = columns::kUnknownElementSize;
      if (!size || !read_int(size.ptr(), element_size)) PyErr_Clear();
      sizes.push_back(element_size);
    }
    element_sizes_ = std::move(sizes);
  }
  return element_sizes_;
}

std::shared_ptr<const PlanTable> table_from_wire(std::string_view bytes) {
  // Tables by fingerprint. Never freed; it owns no Python object.
  static auto& known = *new std::unordered_map<std::uint64_t, std::weak_ptr<const PlanTable>>();
  const std::uint64_t key = util::fingerprint(bytes);
  if (auto table = known[key].lock(); table && table->bytes == bytes) return table;
  std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  auto table = read(bytes);
  known[key] = table;
  return table;
}

std::optional<std::string> table_to_wire(const PlanTable& table, const py::object& mappings,
                                         bool& mapped, std::vector<bool>& unsendable) {
  std::optional<NameTable> mapped_names = with_mappings(mappings);
  mapped = mapped_names.has_value();
  NameTable names = mapped ? std::move(*mapped_names) : NameTable();
  wire::NamedTable named;
  named.table.specs = table.columns.specs;
  named.table.spec = table.columns.spec;
  for (const std::uint32_t name : table.columns.name) {
    const auto number = names.number_of(table.names[name].ptr());
    if (!number) return std::nullopt;
    named.table.name.push_back(*number);
  }
  named.names = names.take();
  for (const PropertyValues& values : table.properties) {
    auto row = properties_to_wire(values);
    unsendable.push_back(!row);
    named.properties.push_back(row ? std::move(*row) : std::string());
  }
  return wire::write_table(named);
}

}  // namespace shardplan::bindings
