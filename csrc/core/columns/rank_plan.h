#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/columns/plan.h"

namespace shardplan::columns {

/// An element size that is not known: upstream cannot tell it for the dtype.
inline constexpr std::int64_t kUnknownElementSize = -1;

/// Bytes that a row's item does not count for itself: the bytes of its tensor count.
inline constexpr std::int64_t kBytesOfTensor = -1;

/// One rank's plan among those of all ranks. `name_of_entry` gives each entry of its table a number
/// below the count of names, the same for the same name in every plan.
struct RankPlan {
  SavePlanView view;
  std::span<const std::uint32_t> name_of_entry;
  std::span<const std::int64_t> element_size;  // a row of the properties, or kUnknownElementSize
  /// A row: bytes to count for it in place of its tensor's, or kBytesOfTensor; none: no such row.
  const std::vector<std::int64_t>* counted = nullptr;

  std::uint32_t name(std::size_t position) const { return name_of_entry[view.entry(position)]; }
};

}  // namespace shardplan::columns
