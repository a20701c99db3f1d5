#include "bindings/torch/planning/global_objects.h"

#include <algorithm>

#include "bindings/torch/upstream/types.h"

namespace shardplan::bindings {

std::uint32_t GlobalObjects::entry_index(planning::RowOfPlan row) const {
  return entry_of_name[(*name_of_entry[row.plan])[plans[row.plan].view().entry(row.position)]];
}

std::optional<std::uint32_t> GlobalObjects::position_of(std::uint32_t rank, std::size_t row) const {
  const auto& chosen = plans[rank].chosen;
  if (!chosen) return static_cast<std::uint32_t>(row);
  const auto found = std::ranges::lower_bound(*chosen, row);
  if (found == chosen->end() || *found != row) return std::nullopt;
  return static_cast<std::uint32_t>(found - chosen->begin());
}

py::object GlobalObjects::chunk(planning::RowOfPlan row) const {
  const columns::SavePlanView view = plans[row.plan].view();
  if (const py::object data = plans[row.plan].rows->tensor_data(view.row(row.position))) {
    return checked(PyObject_GetAttr(data.ptr(), UpstreamTypes::get().chunk_name));
  }
  const std::uint32_t entry = entry_index(row);
  if (chunks[entry]) return chunks[entry][py::int_(plan.chunk_indices[row.plan][row.position])];
  const std::size_t ndim = view.ndim(row.position);
  const std::int64_t* numbers = view.numbers(row.position);
  return make_chunk(numbers, numbers + ndim, ndim);
}

py::object GlobalObjects::make_tensor_data(planning::RowOfPlan row) const {
  const auto shape = plans[row.plan].view().shape(row.position);
  return bindings::make_tensor_data(chunk(row),
                                    make_properties(plans[row.plan].properties(row.position)),
                                    make_size(shape.data(), shape.size()));
}

py::list PlannedChunks::items() {
  GlobalObjects& objects = *objects_;
  if (!objects.chunks[entry_]) {
    const CollectorPause pause;
    const planning::SavedEntry& entry = objects.plan.entries[entry_];
    py::list made(entry.end - entry.begin);
    for (std::size_t at = entry.begin; at < entry.end; ++at) {
      made[at - entry.begin] = objects.chunk(objects.plan.chunks[at]);
    }
    objects.chunks[entry_] = std::move(made);
  }
  return py::list(objects.chunks[entry_].attr("copy")());
}

bool PlannedChunks::append_to(boxes::Boxes& boxes) const {
  const auto view_of = [&](std::uint32_t rank) { return objects_->plans[rank].view(); };
  return planning::append_boxes(objects_->plan, entry_, view_of, boxes);
}

bool PlannedChunks::copy_to(std::size_t ndim, std::int64_t* numbers) const {
  const planning::SavedEntry& entry = objects_->plan.entries[entry_];
  for (std::size_t at = entry.begin; at < entry.end; ++at) {
    const planning::RowOfPlan row = objects_->plan.chunks[at];
    const columns::SavePlanView view = objects_->plans[row.plan].view();
    if (view.ndim(row.position) != ndim) return false;
    numbers = std::copy_n(view.numbers(row.position), 2 * ndim, numbers);
  }
  return true;
}

}  // namespace shardplan::bindings
