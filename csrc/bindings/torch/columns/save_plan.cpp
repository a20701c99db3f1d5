#include "bindings/torch/columns/save_plan.h"

#include "bindings/torch/columns/write_item_reader.h"
#include "bindings/torch/planning/global_objects.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/save_wire.h"

namespace shardplan::bindings {

void PlanRows::set_item(std::size_t row, const py::object& item) {
  if (items.empty()) items.resize(columns.size());
  items[row] = item;
}

void PlanRows::set_tensor_data(std::size_t row, const py::object& data) {
  if (tensor_datas.empty()) tensor_datas.resize(columns.size());
  tensor_datas[row] = data;
}

py::object PlanRows::tensor_data(std::size_t row) const {
  if (const py::object existing = item(row)) {
    return checked(PyObject_GetAttr(existing.ptr(), UpstreamTypes::get().tensor_data));
  }
  return tensor_datas.empty() ? py::object() : tensor_datas[row];
}

py::list SavePlanColumns::items() {
  if (global && global->items[rank]) return py::list(global->items[rank].attr("copy")());
  const CollectorPause pause;
  const std::size_t count = size();
  py::list made(count);
  for (std::size_t position = 0; position < count; ++position) {
    made[position] = item_at(position);
  }
  if (global) global->items[rank] = made.attr("copy")();
  return made;
}

py::object SavePlanColumns::item_at(std::size_t position) {
  return global ? item_of_global_plan(position) : item(position);
}

py::object SavePlanColumns::tensor_data(std::size_t position) {
  const columns::SavePlanView plan = view();
  const std::size_t row = plan.row(position);
  if (py::object existing = rows->tensor_data(row)) return existing;
  py::object made;
  const auto planned = rows->planned.lock();
  const auto at = planned ? planned->position_of(rows->rank, row) : std::nullopt;
  if (at) {
    made = planned->make_tensor_data({rows->rank, *at});
  } else {
    const std::size_t ndim = plan.ndim(position);
    const std::int64_t* numbers = plan.numbers(position);
    made = make_tensor_data(make_chunk(numbers, numbers + ndim, ndim),
                            make_properties(properties(position)),
                            make_size(plan.shape(position).data(), ndim));
  }
  rows->set_tensor_data(row, made);
  return made;
}

py::object SavePlanColumns::item(std::size_t position) {
  const columns::SavePlanView plan = view();
  const std::size_t row = plan.row(position);
  if (py::object existing = rows->item(row)) return existing;
  const columns::WriteKind kind = plan.kind(position);
  py::object made;
  if (kind == columns::WriteKind::kBytes) {
    made = make_write_item(kind, make_index(name(position), columns::kNoChunkIndex), py::none());
  } else {
    made = make_write_item(kind, index(position), tensor_data(position));
  }
  rows->set_item(row, made);
  return made;
}

py::object SavePlanColumns::index(std::size_t position) const {
  const columns::SavePlanView plan = view();
  return make_index(name(position), plan.numbers(position), plan.ndim(position),
                    plan.chunk_index(position));
}

py::object SavePlanColumns::item_of_global_plan(std::size_t position) {
  const columns::WriteKind kind = view().kind(position);
  if (kind == columns::WriteKind::kBytes) return item(position);
  if (rows->is_object(view().row(position))) {
    return global->replaced.at({rank, static_cast<std::uint32_t>(position)});
  }
  return make_write_item(kind, index(position), tensor_data(position));
}

std::shared_ptr<SavePlanColumns> save_columns_of(const py::object& items) {
  if (!PyList_Check(items.ptr())) return nullptr;
  if (!PyList_CheckExact(items.ptr())) {
    const py::object source = read_attribute(items.ptr(), UpstreamTypes::get().columns);
    if (source && py::isinstance<SavePlanColumns>(source)) {
      return source.cast<std::shared_ptr<SavePlanColumns>>();
    }
    if (source && py::isinstance<ReceivedSavePlan>(source)) {
      return source.cast<ReceivedSavePlan&>().columns();
    }
    // A list subclass of a caller: its iterator decides what it contains.
    return read_write_items(checked(PySequence_List(items.ptr())));
  }
  return read_write_items(items);
}

std::shared_ptr<SavePlanColumns> up_to_date(const std::shared_ptr<SavePlanColumns>& columns) {
  const bool all_made = columns->global && columns->global->items[columns->rank];
  if (columns->rows->items.empty() && !all_made) return columns;
  const py::object made = all_made ? py::object(columns->items()) : py::none();
  WriteItemReader reader;
  for (std::size_t position = 0; position < columns->size(); ++position) {
    if (all_made) {
      reader.add(made[py::int_(position)]);
    } else if (columns->rows->item(columns->view().row(position))) {
      reader.add(columns->item_at(position));
    } else {
      reader.add_row(*columns, position);
    }
  }
  return reader.take();
}

}  // namespace shardplan::bindings
