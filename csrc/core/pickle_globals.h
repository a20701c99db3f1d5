#pragma once

#include <cstdint>
#include <string_view>

namespace shardplan {

/// What a global of a pickle is to this reader.
enum class PickleRole : std::uint8_t {
  kUnknown,
  kObject,  // a class whose objects are made without arguments and given a state
  kCall,    // an enum, a path, a layout: made of plain arguments
  kConstant,
  kSize,
  kChunk,
  kIndex,
  kPlace,
  kList,
  kDict,
  kOrderedDict,
  kSet,
  kFrozenSet,
};

/// What DCP's metadata names, in the files of torch 2.1 on and in every protocol; kUnknown for
/// anything else. The name of a dtype is only a name here: whoever looks it up checks that it is
/// one.
PickleRole role_of(std::string_view module, std::string_view name);

}  // namespace shardplan
