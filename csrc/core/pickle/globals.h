#pragma once

#include <cstdint>
#include <string_view>

namespace shardplan::pickle {

/// How the reader treats a global that a pickle names.
enum class Role : std::uint8_t {
  kUnknown,
  kObject,  // class; objects are created without arguments, then get a state
  kCall,    // callable with plain arguments, e.g. an enum, a path, a layout
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

/// Returns the role of a global in DCP metadata, as written by torch 2.1 and later with any
/// protocol; kUnknown for other globals. Names that look like a dtype are accepted; the code that
/// looks them up checks that they are one.
Role role_of(std::string_view module, std::string_view name);

/// Returns the role of a global in the pickle of a plain tensor: rebuild functions, dtypes and
/// storage classes; kUnknown for other globals.
Role role_in_tensor(std::string_view module, std::string_view name);

/// Subset of pickle that a reader accepts.
struct Dialect {
  Role (*role_of)(std::string_view module, std::string_view name) = nullptr;
  const char* no_role = nullptr;  // clause in the error for globals of role kUnknown
  bool is_tensor = false;  // accept persistent ids; throw UnreadPickle for opcodes of other objects
};

inline constexpr Dialect kMetadataDialect{role_of, "which checkpoint metadata does not use"};
inline constexpr Dialect kTensorDialect{role_in_tensor, "which a plain tensor does not use", true};

}  // namespace shardplan::pickle
