#pragma once

#include <cstdint>
#include <string_view>

namespace shardplan::planning {

/// Which of the ranks that have a chunk writes it.
enum class Keeper : std::uint8_t {
  /// Upstream's default: the rank with the fewest bytes so far, or, of several, the first in the
  /// order of a set. Upstream counts the bytes of the whole tensor for each of its chunks.
  kFewestBytes,
  /// Upstream's `save_to_lowest_rank`.
  kLowestRank,
  /// The bytes of the chunks are balanced over the ranks; see `balance`.
  kBalanced,
};

/// Returns the keeper of a name: "fewest bytes", "lowest rank" or "balanced". Throws
/// std::invalid_argument for any other name.
Keeper keeper_named(std::string_view name);

}  // namespace shardplan::planning
