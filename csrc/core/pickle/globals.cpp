#include "core/pickle/globals.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/pickle/torch_dtypes.h"

namespace shardplan {
namespace {

struct Known {
  std::string_view module;
  std::string_view name;
  PickleRole role;
};

constexpr std::string_view kMetadata = "torch.distributed.checkpoint.metadata";
constexpr std::string_view kFiles = "torch.distributed.checkpoint.filesystem";
constexpr std::string_view kPlanner = "torch.distributed.checkpoint.planner";
// Where torch 2.1 and 2.2 had TensorProperties.
constexpr std::string_view kSharded = "torch.distributed._shard.sharded_tensor.metadata";

constexpr Known kKnown[] = {
    {kMetadata, "ChunkStorageMetadata", PickleRole::kChunk},
    {kMetadata, "MetadataIndex", PickleRole::kIndex},
    {kFiles, "_StorageInfo", PickleRole::kPlace},
    {"torch", "Size", PickleRole::kSize},
    {kMetadata, "Metadata", PickleRole::kObject},
    {kMetadata, "TensorStorageMetadata", PickleRole::kObject},
    {kMetadata, "BytesStorageMetadata", PickleRole::kObject},
    {kMetadata, "TensorProperties", PickleRole::kObject},
    {kMetadata, "StorageMeta", PickleRole::kObject},
    {kMetadata, "_MEM_FORMAT_ENCODING", PickleRole::kCall},
    {kSharded, "TensorProperties", PickleRole::kObject},
    {kSharded, "MEM_FORMAT_ENCODING", PickleRole::kCall},
    {kFiles, "_StoragePrefix", PickleRole::kObject},
    {kPlanner, "SavePlan", PickleRole::kObject},
    {kPlanner, "LoadPlan", PickleRole::kObject},
    {kPlanner, "WriteItem", PickleRole::kObject},
    {kPlanner, "ReadItem", PickleRole::kObject},
    {kPlanner, "TensorWriteData", PickleRole::kObject},
    {kPlanner, "BytesIOWriteData", PickleRole::kObject},
    {kPlanner, "WriteItemType", PickleRole::kCall},
    {kPlanner, "LoadItemType", PickleRole::kCall},
    {"torch.serialization", "_get_layout", PickleRole::kCall},
    {"collections", "OrderedDict", PickleRole::kOrderedDict},
    {"_codecs", "encode", PickleRole::kCall},
};

constexpr std::array<std::string_view, 6> kPaths{"Path",     "PosixPath",     "WindowsPath",
                                                 "PurePath", "PurePosixPath", "PureWindowsPath"};

// As str(dtype) begins.
constexpr std::array<std::string_view, 9> kDtypes{"float",   "bfloat", "int",  "uint", "bool",
                                                  "complex", "quint",  "qint", "bits"};

// Twice that of any so far; shown for each entry, so that a file must not make it long.
constexpr std::size_t kLongestDtype = 32;

PickleRole role_of_builtin(std::string_view name) {
  if (name == "list") return PickleRole::kList;
  if (name == "dict") return PickleRole::kDict;
  if (name == "set") return PickleRole::kSet;
  if (name == "frozenset") return PickleRole::kFrozenSet;
  return name == "bytearray" || name == "complex" ? PickleRole::kCall : PickleRole::kUnknown;
}

}  // namespace

PickleRole role_of(std::string_view module, std::string_view name) {
  for (const Known& known : kKnown) {
    if (known.name == name && known.module == module) return known.role;
  }
  // Protocol 2 has Python 2's name; Python 3.13 alone has pathlib._local.
  if (module == "builtins" || module == "__builtin__") return role_of_builtin(name);
  if (module == "pathlib" || module == "pathlib._local") {
    return std::ranges::find(kPaths, name) != kPaths.end() ? PickleRole::kCall
                                                           : PickleRole::kUnknown;
  }
  const bool dtype =
      module == "torch" && name.size() <= kLongestDtype &&
      std::ranges::any_of(kDtypes, [&](std::string_view start) { return name.starts_with(start); });
  return dtype ? PickleRole::kConstant : PickleRole::kUnknown;
}

PickleRole role_in_tensor(std::string_view module, std::string_view name) {
  if (module == "torch._utils") {
    const bool rebuilds = name == "_rebuild_tensor_v2" || name == "_rebuild_tensor_v3" ||
                          name == "_rebuild_parameter";
    return rebuilds ? PickleRole::kCall : PickleRole::kUnknown;
  }
  if (module == "collections" && name == "OrderedDict") return PickleRole::kOrderedDict;
  if (module == "torch" && name == "Size") return PickleRole::kSize;
  const bool untyped = name == "UntypedStorage" && (module == "torch.storage" || module == "torch");
  const bool constant =
      untyped || (module == "torch" && (dtype_size(name) != 0 || !dtype_of_storage(name).empty()));
  return constant ? PickleRole::kConstant : PickleRole::kUnknown;
}

}  // namespace shardplan
