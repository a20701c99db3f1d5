#include "core/planning/global_plan.h"

namespace shardplan::planning {

std::optional<GlobalPlan> make_global_plan(std::span<const columns::RankPlan> plans,
                                           std::size_t name_count, const util::Pulse& pulse) {
  constexpr std::uint32_t kNotSeen = 0xFFFFFFFF;
  GlobalPlan made;
  made.chunk_indices.reserve(plans.size());
  std::vector<std::uint32_t> entry_of(name_count, kNotSeen);
  std::vector<std::int64_t> count(name_count);
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    const columns::SavePlanView& view = plans[rank].view;
    std::vector<std::int64_t> chunk_indices(view.size(), columns::kNoChunkIndex);
    for (std::size_t position = 0; position < view.size(); ++position) {
      pulse.beat();
      const std::uint32_t name = plans[rank].name(position);
      const columns::WriteKind kind = view.kind(position);
      const bool is_new = entry_of[name] == kNotSeen;
      if (!is_new && (kind != columns::WriteKind::kShard || made.entries[entry_of[name]].bytes)) {
        return std::nullopt;
      }
      if (is_new) {
        entry_of[name] = static_cast<std::uint32_t>(made.entries.size());
        made.entries.push_back(
            {name,
             {static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(position)},
             kind == columns::WriteKind::kBytes,
             0,
             0});
      }
      if (kind != columns::WriteKind::kBytes) chunk_indices[position] = count[name]++;
    }
    made.chunk_indices.push_back(std::move(chunk_indices));
  }

  std::size_t total = 0;
  for (SavedEntry& entry : made.entries) {
    entry.begin = total;
    total += static_cast<std::size_t>(count[entry.name]);
    entry.end = total;
  }
  made.chunks.resize(total);
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    for (std::size_t position = 0; position < plans[rank].view.size(); ++position) {
      pulse.beat();
      const std::int64_t chunk_index = made.chunk_indices[rank][position];
      if (chunk_index == columns::kNoChunkIndex) continue;
      const SavedEntry& entry = made.entries[entry_of[plans[rank].name(position)]];
      made.chunks[entry.begin + static_cast<std::size_t>(chunk_index)] = {
          static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(position)};
    }
  }
  return made;
}

}  // namespace shardplan::planning
