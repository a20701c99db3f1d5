#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "bindings/torch/upstream/item_maker.h"

namespace shardplan::bindings {

/// The values of a TensorProperties as bytes, each with its field's name. The values of unknown
/// fields are pickled. Nothing where another one is not a dtype, layout, memory format, bool, int,
/// tuple of ints or None.
std::optional<std::string> properties_to_wire(const PropertyValues& values);

/// Reads what `properties_to_wire` wrote. Throws BadWire, also where the installed torch's
/// TensorProperties has other fields. Unpickles the values of fields that are unknown here, as the
/// collective does with everything that travels; calls nothing else that the bytes name.
PropertyValues properties_from_wire(std::string_view bytes);

}  // namespace shardplan::bindings
