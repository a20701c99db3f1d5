#include "core/pickle/globals.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/pickle/torch_dtypes.h"

namespace shardplan::pickle {
namespace {

struct Known {
  std::string_view module;
  std::string_view name;
  Role role;
};

constexpr std::string_view kMetadata = "torch.distributed.checkpoint.metadata";
constexpr std::string_view kFiles = "torch.distributed.checkpoint.filesystem";
constexpr std::string_view kPlanner = "torch.distributed.checkpoint.planner";
// Module of TensorProperties in torch 2.1 and 2.2.
constexpr std::string_view kSharded = "torch.distributed._shard.sharded_tensor.metadata";

constexpr Known kKnown[] = {
    {kMetadata, "ChunkStorageMetadata", Role::kChunk},
    {kMetadata, "MetadataIndex", Role::kIndex},
    {kFiles, "_StorageInfo", Role::kLocation},
    {"torch", "Size", Role::kSize},
    {kMetadata, "Metadata", Role::kObject},
    {kMetadata, "TensorStorageMetadata", Role::kObject},
    {kMetadata, "BytesStorageMetadata", Role::kObject},
    {kMetadata, "TensorProperties", Role::kObject},
    {kMetadata, "StorageMeta", Role::kObject},
    {kMetadata, "_MEM_FORMAT_ENCODING", Role::kCall},
    {kSharded, "TensorProperties", Role::kObject},
    {kSharded, "MEM_FORMAT_ENCODING", Role::kCall},
    {kFiles, "_StoragePrefix", Role::kObject},
    {kPlanner, "SavePlan", Role::kObject},
    {kPlanner, "LoadPlan", Role::kObject},
    {kPlanner, "WriteItem", Role::kObject},
    {kPlanner, "ReadItem", Role::kObject},
    {kPlanner, "TensorWriteData", Role::kObject},
    {kPlanner, "BytesIOWriteData", Role::kObject},
    {kPlanner, "WriteItemType", Role::kCall},
    {kPlanner, "LoadItemType", Role::kCall},
    {"torch.serialization", "_get_layout", Role::kCall},
    {"collections", "OrderedDict", Role::kOrderedDict},
    {"_codecs", "encode", Role::kCall},
};

constexpr std::array<std::string_view, 6> kPaths{"Path",     "PosixPath",     "WindowsPath",
                                                 "PurePath", "PurePosixPath", "PureWindowsPath"};

// Prefixes of dtype names.
constexpr std::array<std::string_view, 10> kDtypes{"float",   "bfloat",   "int",   "uint", "bool",
                                                   "complex", "bcomplex", "quint", "qint", "bits"};

// Twice the length of any known dtype. Tools print the dtype of each entry, so it must be short.
constexpr std::size_t kLongestDtype = 32;

Role role_of_builtin(std::string_view name) {
  if (name == "list") return Role::kList;
  if (name == "dict") return Role::kDict;
  if (name == "set") return Role::kSet;
  if (name == "frozenset") return Role::kFrozenSet;
  return name == "bytearray" || name == "complex" ? Role::kCall : Role::kUnknown;
}

}  // namespace

Role role_of(std::string_view module, std::string_view name) {
  for (const Known& known : kKnown) {
    if (known.name == name && known.module == module) return known.role;
  }
  // Protocol 2 uses the Python 2 name of builtins. Only Python 3.13 has pathlib._local.
  if (module == "builtins" || module == "__builtin__") return role_of_builtin(name);
  if (module == "pathlib" || module == "pathlib._local") {
    return std::ranges::find(kPaths, name) != kPaths.end() ? Role::kCall : Role::kUnknown;
  }
  const bool dtype =
      module == "torch" && name.size() <= kLongestDtype &&
      std::ranges::any_of(kDtypes, [&](std::string_view start) { return name.starts_with(start); });
  return dtype ? Role::kConstant : Role::kUnknown;
}

Role role_in_tensor(std::string_view module, std::string_view name) {
  if (module == "torch._utils") {
    const bool rebuilds = name == "_rebuild_tensor_v2" || name == "_rebuild_tensor_v3" ||
                          name == "_rebuild_parameter";
    return rebuilds ? Role::kCall : Role::kUnknown;
  }
  if (module == "collections" && name == "OrderedDict") return Role::kOrderedDict;
  if (module == "torch" && name == "Size") return Role::kSize;
  const bool untyped = name == "UntypedStorage" && (module == "torch.storage" || module == "torch");
  const bool constant =
      untyped || (module == "torch" && (dtype_size(name) != 0 || !dtype_of_storage(name).empty()));
  return constant ? Role::kConstant : Role::kUnknown;
}

}  // namespace shardplan::pickle
