#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/util/pulse.h"

namespace shardplan::planning {

/// Chunks of which any of several ranks can write the bytes.
struct SharedChunks {
  std::vector<std::int64_t> bytes;
  std::vector<std::size_t> end;      // per chunk: index behind its last rank in `ranks`
  std::vector<std::uint32_t> ranks;  // the ranks of each chunk, one chunk after the other

  std::size_t size() const { return bytes.size(); }
  std::span<const std::uint32_t> ranks_of(std::size_t chunk) const {
    const std::size_t begin = chunk == 0 ? 0 : end[chunk - 1];
    return std::span(ranks).subspan(begin, end[chunk] - begin);
  }
  void push(std::int64_t chunk_bytes, std::span<const std::uint32_t> chunk_ranks) {
    bytes.push_back(chunk_bytes);
    ranks.insert(ranks.end(), chunk_ranks.begin(), chunk_ranks.end());
    end.push_back(ranks.size());
  }
};

/// Chooses the rank that writes each chunk, so that the ranks write about the same number of bytes.
/// The largest chunk is placed first; the rank with the fewest bytes writes it, of several the
/// lowest. Equal arguments have equal results, whatever was saved before.
///
/// written: per rank, the bytes that it must write anyway
/// pulse:   beats for each rank of each chunk
///
/// Returns one rank per chunk, or nothing if the bytes of a rank do not fit int64. Throws
/// std::invalid_argument if a chunk has no rank, or one that `written` lacks.
std::optional<std::vector<std::uint32_t>> balance(const SharedChunks& chunks,
                                                  std::vector<std::int64_t> written,
                                                  const util::Pulse& pulse = {});

}  // namespace shardplan::planning
