#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/plan.h"
#include "core/pulse.h"

namespace shardplan {

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

/// Gives ranks, ascending, in the order in which a CPython set of them is iterated.
using SetOrder = std::function<std::vector<std::uint32_t>(std::span<const std::uint32_t>)>;

/// The rows that each plan keeps so that every (name, offset) is written by one rank only
/// (`_dedup_save_plans.dedup_save_plans`): by the lowest that has it where `save_to_lowest_rank`,
/// else by the one with the fewest bytes so far, ties in `set_order`. Rows of one plan with the
/// same name and offset stay together.
///
/// Linear in the rows. Gives rows of `SavePlanView::rows`, ascending; nothing where a number of
/// bytes is not known or does not fit int64. No row may be kForeign. `pulse` beats meanwhile.
std::optional<std::vector<std::vector<std::uint32_t>>> dedup(std::span<const RankPlan> plans,
                                                             std::size_t name_count,
                                                             bool save_to_lowest_rank,
                                                             const SetOrder& set_order,
                                                             const Pulse& pulse = {});

}  // namespace shardplan
