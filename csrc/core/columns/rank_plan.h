#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/columns/plan.h"

namespace shardplan::columns {

/// Element size of dtypes for which upstream has none.
inline constexpr std::int64_t kUnknownElementSize = -1;

/// Byte count of rows without an override; the bytes of the tensor count.
inline constexpr std::int64_t kBytesOfTensor = -1;

/// One rank's plan among those of all ranks.
struct RankPlan {
  SavePlanView view;
  /// Per entry of the table: the number of its name. Equal names have equal numbers in all plans.
  std::span<const std::uint32_t> name_of_entry;
  std::span<const std::int64_t> element_size;  // per property row, or kUnknownElementSize
  /// Per-row override of the byte count of the whole tensor, or kBytesOfTensor. Null if no row has
  /// one. The property row of such a row need not exist.
  const std::vector<std::int64_t>* counted = nullptr;

  std::uint32_t name(std::size_t position) const { return name_of_entry[view.entry(position)]; }
};

}  // namespace shardplan::columns
