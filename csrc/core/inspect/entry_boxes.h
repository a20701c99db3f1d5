#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "core/boxes/arrangement.h"
#include "core/boxes/box.h"
#include "core/inspect/checkpoint.h"
#include "core/util/pulse.h"

namespace shardplan::inspect {

/// Returns the boxes of an entry's chunks, or nothing if one ends beyond int64.
std::optional<boxes::Boxes> boxes_of(const Checkpoint& checkpoint, std::size_t entry);

/// Returns the tensors, by entry, whose boxes leave the tensor, overlap or, if `must_fill`, leave
/// holes. `pulse` beats for each entry.
std::vector<std::size_t> invalid_entries(const Checkpoint& checkpoint, bool must_fill,
                                         const util::Pulse& pulse = {});

/// Returns the arrangement of the boxes of each entry; irregular if one ends beyond int64. `pulse`
/// beats for each entry.
std::vector<boxes::Arrangement> arrangements(const Checkpoint& checkpoint,
                                             const util::Pulse& pulse = {});

}  // namespace shardplan::inspect
