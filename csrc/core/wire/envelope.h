#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shardplan::wire {

/// Kind of a message.
enum class WireKind : std::uint8_t { kSavePlan = 1, kLoadPlan = 2, kSavedChunks = 3, kStorage = 4 };

/// Contents of a message: a table, normally equal on every rank, and the rows of one rank.
struct Envelope {
  std::size_t items = 0;
  std::string_view table;
  std::string_view rows;
};

/// Version of everything after the release string. Must be raised with any change of the format.
inline constexpr std::uint8_t kWireVersion = 1;

/// Encodes a message with a header and a checksum. `release` is the version of shardplan that
/// writes it; readers show it if the wire versions differ.
std::string seal(WireKind kind, std::string_view release, const Envelope& contents);

/// Decodes a message. The result points into `bytes`. Throws BadWire if the message is of another
/// kind, has another wire version (the error names both releases), or was modified, truncated or
/// extended. `items` of the result is at most `bytes.size()`.
Envelope open(WireKind kind, std::string_view release, std::string_view bytes);

}  // namespace shardplan::wire
