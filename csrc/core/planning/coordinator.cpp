#include "core/planning/coordinator.h"

#include <utility>

#include "core/boxes/validate.h"

namespace shardplan::planning {

Coordinator::Coordinator(std::vector<columns::RankPlan> plans, std::size_t name_count,
                         util::Pulse pulse)
    : plans_(std::move(plans)), name_count_(name_count), pulse_(std::move(pulse)) {}

bool Coordinator::drop_replicas(Keeper keeper, const SetOrder& set_order) {
  auto kept = dedup(plans_, name_count_, keeper, set_order, pulse_);
  if (!kept) return false;
  kept_ = std::move(*kept);
  for (std::size_t rank = 0; rank < plans_.size(); ++rank) plans_[rank].view.chosen = &kept_[rank];
  return true;
}

bool Coordinator::plan() {
  auto made = make_global_plan(plans_, name_count_, pulse_);
  if (!made) return false;
  global_ = std::move(*made);
  return true;
}

std::vector<std::uint32_t> Coordinator::invalid_entries() const {
  const auto view_of = [&](std::uint32_t rank) { return plans_[rank].view; };
  std::vector<std::uint32_t> invalid;
  for (std::uint32_t at = 0; at < global_.entries.size(); ++at) {
    pulse_.check();
    const SavedEntry& entry = global_.entries[at];
    if (entry.bytes) continue;
    const auto shape = plans_[entry.first.plan].view.shape(entry.first.position);
    // Upstream accepts any chunks of a tensor without dims.
    if (shape.empty()) continue;
    boxes::Boxes boxes(shape.size());
    if (!append_boxes(global_, at, view_of, boxes) ||
        boxes::check_boxes(boxes, shape, plans_.size() > 1) != boxes::Fault::kNone) {
      invalid.push_back(at);
    }
  }
  return invalid;
}

}  // namespace shardplan::planning
