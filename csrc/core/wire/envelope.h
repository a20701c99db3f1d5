#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shardplan::wire {

/// What bytes on the wire hold.
enum class WireKind : std::uint8_t { kSavePlan = 1, kLoadPlan = 2, kSavedChunks = 3, kStorage = 4 };

/// What travels: two stretches of bytes, what is the same on every rank and what is not.
struct Envelope {
  std::size_t items = 0;
  std::string_view table;
  std::string_view rows;
};

/// The version of all that lies between the version strings and the end; raise it with any change.
inline constexpr std::uint8_t kWireVersion = 1;

/// The bytes of an envelope. `release` is the version of shardplan that writes it, for messages.
std::string seal(WireKind kind, std::string_view release, const Envelope& contents);

/// The envelope in `bytes`, which must outlive it. Throws BadWire where the bytes are not of
/// `kind`, were written in another wire version (the message names both releases), or were changed,
/// cut or extended on the way. `items` is at most the number of bytes.
Envelope open(WireKind kind, std::string_view release, std::string_view bytes);

}  // namespace shardplan::wire
