#include "bindings/torch/global_objects.h"

#include <algorithm>

#include "bindings/torch/stock_types.h"

namespace shardplan {

std::uint32_t GlobalObjects::entry_index(std::uint32_t rank, std::size_t position) const {
  return entry_of_name[(*name_of_entry[rank])[plans[rank].view().entry(position)]];
}

const SavedEntry& GlobalObjects::entry_of(std::uint32_t rank, std::size_t position) const {
  return plan.entries[entry_index(rank, position)];
}

py::object GlobalObjects::chunk(RowOfPlan row) {
  const StockTypes& stock = StockTypes::get();
  const SavePlanColumns& columns = plans[row.plan];
  const SavePlanView view = columns.view();
  py::object item = columns.rows->item(view.row(row.position));
  if (!item && items[row.plan]) item = items[row.plan][py::int_(row.position)];
  if (item) {
    const py::object data = checked(PyObject_GetAttr(item.ptr(), stock.tensor_data));
    return checked(PyObject_GetAttr(data.ptr(), stock.chunk_name));
  }
  const std::uint32_t entry = entry_index(row.plan, row.position);
  if (chunks[entry]) {
    return chunks[entry][py::int_(plan.hints[row.plan][row.position])];
  }
  const std::size_t ndim = view.ndim(row.position);
  const std::int64_t* numbers = view.numbers(row.position);
  return make_chunk(numbers, numbers + ndim, ndim);
}

py::object GlobalObjects::tensor_data(RowOfPlan row) {
  const SavePlanColumns& columns = plans[row.plan];
  const SavePlanView view = columns.view();
  if (const py::object item = columns.rows->item(view.row(row.position))) {
    return checked(PyObject_GetAttr(item.ptr(), StockTypes::get().tensor_data));
  }
  const std::uint32_t entry = entry_index(row.plan, row.position);
  const RowOfPlan first = plan.entries[entry].first;
  const bool is_first = first.plan == row.plan && first.position == row.position;
  const auto shape = view.shape(row.position);
  return make_tensor_data(
      chunk(row), is_first ? properties[entry] : make_properties(columns.properties(row.position)),
      is_first ? sizes[entry] : make_size(shape.data(), shape.size()));
}

py::list ChunkColumns::items() {
  GlobalObjects& objects = *objects_;
  if (!objects.chunks[entry_]) {
    const CollectorPause pause;
    const SavedEntry& entry = objects.plan.entries[entry_];
    py::list made(entry.end - entry.begin);
    for (std::size_t at = entry.begin; at < entry.end; ++at) {
      made[at - entry.begin] = objects.chunk(objects.plan.chunks[at]);
    }
    objects.chunks[entry_] = std::move(made);
  }
  return py::list(objects.chunks[entry_].attr("copy")());
}

bool ChunkColumns::append_to(Boxes& boxes) const {
  const SavedEntry& entry = objects_->plan.entries[entry_];
  boxes.reserve(boxes.size() + entry.end - entry.begin);
  for (std::size_t at = entry.begin; at < entry.end; ++at) {
    const RowOfPlan row = objects_->plan.chunks[at];
    const SavePlanView view = objects_->plans[row.plan].view();
    const std::int64_t* numbers = view.numbers(row.position);
    const std::size_t ndim = view.ndim(row.position);
    if (ndim != boxes.ndim() || !boxes.push(numbers, numbers + ndim)) return false;
  }
  return true;
}

}  // namespace shardplan
