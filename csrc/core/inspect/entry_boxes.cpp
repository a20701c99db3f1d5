#include "core/inspect/entry_boxes.h"

#include "core/boxes/validate.h"

namespace shardplan::inspect {
namespace {

bool is_valid(const Checkpoint& checkpoint, std::size_t entry, bool must_fill) {
  const std::optional<boxes::Boxes> boxes = boxes_of(checkpoint, entry);
  if (!boxes) return false;
  const columns::SaveTable& table = checkpoint.chunks().table;
  const auto shape = table.specs.shape(table.spec[entry]);
  // `check_boxes` accepts any boxes of a tensor without dims, but one element must be saved.
  if (shape.empty() && must_fill && boxes->empty()) return false;
  return boxes::check_boxes(*boxes, shape, must_fill) == boxes::Fault::kNone;
}

}  // namespace

std::optional<boxes::Boxes> boxes_of(const Checkpoint& checkpoint, std::size_t entry) {
  boxes::Boxes boxes(checkpoint.chunks().ndim(entry));
  if (!checkpoint.chunks().append_to(boxes, entry)) return std::nullopt;
  return boxes;
}

std::vector<std::size_t> invalid_entries(const Checkpoint& checkpoint, bool must_fill,
                                         const util::Pulse& pulse) {
  std::vector<std::size_t> invalid;
  for (std::size_t entry = 0; entry < checkpoint.chunks().size(); ++entry) {
    pulse.check();
    if (!columns::writes_tensor(checkpoint.kind(entry))) continue;
    if (!is_valid(checkpoint, entry, must_fill)) invalid.push_back(entry);
  }
  return invalid;
}

std::vector<boxes::Arrangement> arrangements(const Checkpoint& checkpoint,
                                             const util::Pulse& pulse) {
  std::vector<boxes::Arrangement> found;
  for (std::size_t entry = 0; entry < checkpoint.chunks().size(); ++entry) {
    pulse.check();
    const std::optional<boxes::Boxes> boxes = boxes_of(checkpoint, entry);
    found.push_back(boxes ? boxes::recognise(*boxes)
                          : boxes::Arrangement{boxes::Arrangement::Kind::kIrregular, {}, false});
  }
  return found;
}

}  // namespace shardplan::inspect
