#include "core/planning/balance.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "core/util/checked.h"

namespace shardplan::planning {

std::optional<std::vector<std::uint32_t>> balance(const SharedChunks& chunks,
                                                  std::vector<std::int64_t> written,
                                                  const util::Pulse& pulse) {
  std::vector<std::size_t> order(chunks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater<>(),
                           [&](std::size_t chunk) { return chunks.bytes[chunk]; });
  std::vector<std::uint32_t> writers(chunks.size());
  for (const std::size_t chunk : order) {
    const std::span<const std::uint32_t> ranks = chunks.ranks_of(chunk);
    if (ranks.empty()) {
      throw std::invalid_argument("chunk " + std::to_string(chunk) + " has no rank");
    }
    std::uint32_t writer = ranks.front();
    for (const std::uint32_t rank : ranks) {
      pulse.beat();
      if (rank >= written.size()) {
        throw std::invalid_argument("chunk " + std::to_string(chunk) + " has rank " +
                                    std::to_string(rank) + " of " + std::to_string(written.size()));
      }
      if (written[rank] < written[writer] || (written[rank] == written[writer] && rank < writer)) {
        writer = rank;
      }
    }
    if (!util::checked_add(written[writer], chunks.bytes[chunk], written[writer])) {
      return std::nullopt;
    }
    writers[chunk] = writer;
  }
  return writers;
}

}  // namespace shardplan::planning
