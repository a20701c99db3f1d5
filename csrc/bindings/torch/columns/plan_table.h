#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/torch/upstream/item_maker.h"
#include "core/columns/plan.h"
#include "core/wire/names.h"

namespace shardplan::bindings {

/// Table of a save plan, with the objects that it points into. Normally all ranks' plans share one.
struct PlanTable {
  columns::SaveTable columns;
  std::vector<py::object> names;
  std::vector<PropertyValues> properties;

  // Set only for a received table:
  std::string bytes;  // the encoded table
  std::vector<wire::PathShape> shapes;
  std::vector<std::uint32_t> shape_of_name;

  /// Returns the mappings (`planner_data`): fqn -> path. All plans of the table share the dict; it
  /// must not be modified.
  py::dict mappings() const;

  /// Returns the element size for each row of `properties`, or kUnknownElementSize.
  const std::vector<std::int64_t>& element_sizes() const;

 private:
  mutable py::object mappings_;
  mutable std::vector<std::int64_t> element_sizes_;
};

/// Decodes a table. Equal bytes share one table as long as it is in use. Throws BadWire.
std::shared_ptr<const PlanTable> table_from_wire(std::string_view bytes);

/// Encodes a table. Returns nothing if it cannot be encoded.
///
/// mappings:   the mappings to encode with it, a dict, or None
/// mapped:     set to whether the mappings were encoded
/// unsendable: set, per row of properties, to whether it cannot be encoded
std::optional<std::string> table_to_wire(const PlanTable& table, const py::object& mappings,
                                         bool& mapped, std::vector<bool>& unsendable);

}  // namespace shardplan::bindings
