#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"
#include "core/columns/plan.h"
#include "core/wire/names.h"

namespace shardplan::bindings {

/// A save plan's table with the objects that it points into: what all ranks' plans of one job
/// share.
struct PlanTable {
  columns::SaveTable columns;
  std::vector<py::object> names;
  std::vector<PropertyValues> properties;

  // Of a table that arrived:
  std::string bytes;  // as it travelled
  std::vector<wire::PathShape> shapes;
  std::vector<std::uint32_t> shape_of_name;

  /// The mappings (`planner_data`): fqn -> path. One dict for all plans of the table; not to be
  /// changed, for each plan shows a copy.
  py::dict mappings() const;

  /// Bytes an element of each row of `properties`, or kUnknownElementSize.
  const std::vector<std::int64_t>& element_sizes() const;

 private:
  mutable py::object mappings_;
  mutable std::vector<std::int64_t> element_sizes_;
};

/// The table in these bytes: one for equal bytes, as long as somebody holds it. Throws BadWire.
std::shared_ptr<const PlanTable> table_from_wire(std::string_view bytes);

/// A table as it travels, with these mappings (a dict, or None for none). Rows whose properties
/// cannot travel are marked in `unsendable`. Empty where it cannot travel; `mapped` says whether
/// the mappings are in it.
std::string table_to_wire(const PlanTable& table, const py::object& mappings, bool& mapped,
                          std::vector<bool>& unsendable);

}  // namespace shardplan::bindings
