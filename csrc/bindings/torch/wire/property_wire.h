#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "bindings/torch/upstream/item_maker.h"

namespace shardplan::bindings {

/// Encodes the values of a TensorProperties, each with the name of its field. Values of unknown
/// fields are pickled. Returns nothing if another value is not a dtype, layout, memory format,
/// bool, int, tuple of ints or None.
std::optional<std::string> properties_to_wire(const PropertyValues& values);

/// Decodes the bytes of `properties_to_wire`. Throws BadWire if they are broken, or if
/// TensorProperties has other fields in the installed torch. Unpickles the values of unknown
/// fields, as the collective does with all objects, and calls nothing else that the bytes name.
PropertyValues properties_from_wire(std::string_view bytes);

}  // namespace shardplan::bindings
