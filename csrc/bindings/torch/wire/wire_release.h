#pragma once

#include <string_view>

namespace shardplan::bindings {

/// What says on the wire which release wrote it.
inline constexpr std::string_view kRelease{SHARDPLAN_VERSION};

}  // namespace shardplan::bindings
