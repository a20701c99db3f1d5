#pragma once

#include <string_view>

namespace shardplan::bindings {

/// Release name in the header of every message.
inline constexpr std::string_view kRelease{SHARDPLAN_VERSION};

}  // namespace shardplan::bindings
