#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "core/data/safetensors_file.h"

namespace shardplan::bindings {

/// Headers of local safetensors files. Each is read once. Used with the GIL, which is released
/// while a header is read.
class SafetensorsHeaders {
 public:
  /// Returns a tensor of a file. Returns null if the file cannot be read, is not a plain
  /// safetensors file, or has no such tensor in a dtype that torch has. The pointer is valid as
  /// long as this object.
  const data::SafetensorsEntry* find(const std::string& path, std::string_view name);

 private:
  std::map<std::string, std::optional<data::SafetensorsFile>> files_;  // nothing if not read
};

}  // namespace shardplan::bindings
