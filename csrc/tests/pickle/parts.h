#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "core/pickle/machine.h"

// Fragments of protocol 4 pickles, for pickles that no pickler writes.

namespace shardplan::testing {

inline pickle::Source source_of(std::string_view bytes,
                                std::size_t at_once = std::size_t{1} << 20) {
  return [bytes, at_once](char* into, std::size_t at_most) mutable {
    const std::size_t count = std::min({bytes.size(), at_most, at_once});
    std::memcpy(into, bytes.data(), count);
    bytes.remove_prefix(count);
    return count;
  };
}

/// Returns `value` as little-endian bytes.
inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int at = 0; at < bytes; ++at) out += static_cast<char>(value >> (8 * at));
  return out;
}

inline std::string pickled_text(std::string_view text) {
  return "X" + little_endian(text.size(), 4) + std::string(text);
}
inline std::string pickled_int(std::int32_t number) {
  return "J" + little_endian(static_cast<std::uint32_t>(number), 4);
}
inline std::string pickled_global(std::string_view module, std::string_view name) {
  return pickled_text(module) + pickled_text(name) + "\x93";
}
inline std::string memo_put(std::uint32_t at) {
  return "r" + little_endian(at, 4);
}
inline std::string memo_get(std::uint32_t at) {
  return at < 256 ? "h" + little_endian(at, 1) : "j" + little_endian(at, 4);
}
inline std::string repeated(std::string_view text, std::size_t times) {
  std::string out;
  out.reserve(text.size() * times);
  for (std::size_t at = 0; at < times; ++at) out += text;
  return out;
}

inline const std::string kMetadataModule = "torch.distributed.checkpoint.metadata";
inline const std::string kFilesModule = "torch.distributed.checkpoint.filesystem";

}  // namespace shardplan::testing
