#pragma once

#include <cstdint>
#include <string_view>

namespace shardplan::pickle {

/// What a global of a pickle is to this reader.
enum class Role : std::uint8_t {
  kUnknown,
  kObject,  // a class whose objects are made without arguments and given a state
  kCall,    // an enum, a path, a layout: made of plain arguments
  kConstant,
  kSize,
  kChunk,
  kIndex,
  kLocation,
  kList,
  kDict,
  kOrderedDict,
  kSet,
  kFrozenSet,
};

/// What DCP's metadata names, in the files of torch 2.1 on and in every protocol; kUnknown for
/// anything else. The name of a dtype is only a name here: whoever looks it up checks that it is
/// one.
Role role_of(std::string_view module, std::string_view name);

/// What the pickle of a plain tensor names: what rebuilds it, its dtype and its kind of storage;
/// kUnknown for anything else.
Role role_in_tensor(std::string_view module, std::string_view name);

/// What a pickle may hold.
struct Dialect {
  Role (*role_of)(std::string_view module, std::string_view name) = nullptr;
  const char* no_role = nullptr;  // what a global is that has no role, as the error goes on
  bool is_tensor = false;  // persistent ids are read; what is no plain tensor's is an UnreadPickle
};

inline constexpr Dialect kMetadataDialect{role_of, "which is not one of a checkpoint's metadata"};
inline constexpr Dialect kTensorDialect{role_in_tensor, "which is nothing that makes a tensor",
                                        true};

}  // namespace shardplan::pickle
