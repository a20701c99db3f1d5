#include "bindings/torch/data/safetensors_headers.h"

#include <utility>

#include "bindings/common/python_object.h"
#include "core/data/file.h"

namespace shardplan::bindings {
namespace {

std::optional<data::SafetensorsFile> read_header(const std::string& path) {
  const py::gil_scoped_release released;
  try {
    const data::File file(path);
    return data::SafetensorsFile(
        [&file](std::uint64_t offset, char* into, std::size_t count) {
          return file.read_at(offset, into, count);
        },
        file.size());
  } catch (const std::system_error&) {
    return std::nullopt;
  } catch (const data::BadPart&) {
    return std::nullopt;
  }
}

}  // namespace

const data::SafetensorsEntry* SafetensorsHeaders::find(const std::string& path,
                                                       std::string_view name) {
  auto known = files_.find(path);
  if (known == files_.end()) known = files_.emplace(path, read_header(path)).first;
  if (!known->second) return nullptr;
  const data::SafetensorsEntry* const entry = known->second->find(name);
  return entry == nullptr || entry->tensor.dtype.empty() ? nullptr : entry;
}

}  // namespace shardplan::bindings
