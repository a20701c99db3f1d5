#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/columns/rank_plan.h"
#include "core/planning/dedup.h"
#include "core/planning/global_plan.h"
#include "core/util/pulse.h"

namespace shardplan::planning {

/// The stages of a coordinator between the local plans of all ranks and the global plan. The
/// bindings, the simulation and the benchmark run these stages; each decodes and encodes plans in
/// its own way.
class Coordinator {
 public:
  /// plans:      one per rank; the coordinator does not own what they point to
  /// name_count: number of distinct names in all plans
  /// pulse:      beats during every stage
  Coordinator(std::vector<columns::RankPlan> plans, std::size_t name_count, util::Pulse pulse = {});

  // The plans point into the coordinator once `drop_replicas` has returned.
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  /// Drops the rows that another rank writes (`_dedup_save_plans.dedup_save_plans`); see `dedup`.
  /// Returns false, and drops nothing, if the number of bytes of a row is unknown or does not fit
  /// int64.
  [[nodiscard]] bool drop_replicas(Keeper keeper, const SetOrder& set_order);

  /// Makes the global plan (`default_planner.create_default_global_save_plan`) of the rows that are
  /// left. Returns false if upstream raises: a name that is not sharded is written twice.
  [[nodiscard]] bool plan();

  /// Returns the entries of the global plan whose boxes leave the tensor, overlap or, for more than
  /// one rank, leave holes (`default_planner._validate_global_plan`), ascending. Call after `plan`.
  std::vector<std::uint32_t> invalid_entries() const;

  const std::vector<columns::RankPlan>& plans() const { return plans_; }
  /// For each rank, the rows that it still writes, ascending; empty before `drop_replicas`.
  const std::vector<std::vector<std::uint32_t>>& kept() const { return kept_; }
  const GlobalPlan& global() const { return global_; }
  /// Moves the global plan out.
  GlobalPlan take_global() { return std::move(global_); }

 private:
  std::vector<columns::RankPlan> plans_;
  std::size_t name_count_;
  util::Pulse pulse_;
  std::vector<std::vector<std::uint32_t>> kept_;
  GlobalPlan global_;
};

}  // namespace shardplan::planning
