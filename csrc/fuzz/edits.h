#pragma once

#include <string>
#include <string_view>

#include "fuzz_input.h"

namespace shardplan::fuzz {

/// Returns sound bytes with up to 7 edits, which the input describes: bytes are replaced, removed,
/// inserted, repeated, moved or cut off. So a reader is tested behind its first checks, which
/// random bytes do not pass.
inline std::string edited(std::string bytes, Input& input) {
  for (std::size_t count = input.byte() % 8; count > 0; --count) {
    const std::uint8_t kind = input.byte();
    const std::size_t at = (std::size_t{input.byte()} << 8 | input.byte()) % (bytes.size() + 1);
    const std::size_t length = input.byte() % 16 + std::size_t{1};
    const std::string_view given = input.take(kind < 96 ? length : 1);
    switch (kind % 8) {
      case 0: bytes.replace(at, kind < 96 ? length : 1, given); break;
      case 1: bytes.erase(at, length); break;
      case 2: bytes.insert(at, given); break;
      case 3: bytes.insert(at, bytes.substr(at, length)); break;
      case 4: bytes += bytes.substr(at, length); break;
      case 5: bytes.resize(at); break;
      // A count or an index of 2^63 or more, as a varint and as eight bytes.
      case 6: bytes.replace(at, 1, std::string(9, '\xFF') + '\x01'); break;
      default: bytes.replace(at, 8, std::string(8, kind < 128 ? '\xFF' : '\x7F')); break;
    }
  }
  return bytes;
}

}  // namespace shardplan::fuzz
