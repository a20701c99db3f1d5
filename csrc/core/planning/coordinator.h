#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/planning/dedup.h"
#include "core/planning/global_plan.h"
#include "core/wire/save_plan.h"

namespace shardplan::planning {

/// What the coordinator of a save does between the bytes of the local plans and those of the final
/// ones, on columns alone, stage by stage. For worlds that are imagined: of plans that differ in
/// what their tables say, or that hold objects, it knows nothing, and ranks that have as little to
/// write as each other come in ascending order, not in that of a CPython set.
class Coordinator {
 public:
  /// arrived: a rank's plan, sealed by this release
  /// element_sizes: a row of the table's properties -> bytes an element
  /// pulse:   beats while a stage runs; outlives the coordinator
  Coordinator(std::vector<std::string> arrived, std::string release,
              std::vector<std::int64_t> element_sizes, const util::Pulse& pulse);

  // The plans point into the coordinator.
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  // The stages, in their order; what one needs no more is freed after it. They throw
  // std::runtime_error, which says what is wrong, and BadWire.
  void read();
  void drop_replicas();
  void plan();
  void check() const;
  void write();

  const wire::NamedTable& table() const { return table_; }
  const std::vector<columns::RankPlan>& plans() const { return plans_; }
  const GlobalPlan& global() const { return global_; }
  const std::vector<std::string>& sent() const { return sent_; }

 private:
  std::vector<std::string> arrived_;
  std::string release_;
  std::vector<std::int64_t> element_sizes_;
  const util::Pulse& pulse_;
  std::string table_bytes_;
  wire::NamedTable table_;
  std::vector<columns::SaveRows> rows_;
  std::vector<columns::RankPlan> plans_;
  std::vector<std::vector<std::uint32_t>> kept_;
  GlobalPlan global_;
  std::vector<std::string> sent_;
};

}  // namespace shardplan::planning
