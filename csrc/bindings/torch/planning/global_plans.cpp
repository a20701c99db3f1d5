#include "bindings/torch/planning/global_plans.h"

#include <algorithm>

#include "bindings/torch/planning/global_objects.h"
#include "bindings/torch/planning/rank_plans.h"
#include "bindings/torch/upstream/types.h"
#include "core/planning/coordinator.h"

namespace shardplan::bindings {
namespace {

/// Returns the ranks in the order in which a CPython set of them is iterated.
std::vector<std::uint32_t> set_order(std::span<const std::uint32_t> ranks) {
  const py::object set = checked(PySet_New(nullptr));
  for (const std::uint32_t rank : ranks) {
    const py::object number = checked(PyLong_FromUnsignedLong(rank));
    if (PySet_Add(set.ptr(), number.ptr()) != 0) throw py::error_already_set();
  }
  std::vector<std::uint32_t> order;
  for (const py::handle number : set) {
    order.push_back(static_cast<std::uint32_t>(PyLong_AsUnsignedLong(number.ptr())));
  }
  return order;
}

std::shared_ptr<const std::vector<std::int64_t>> chunk_indices_of(
    const SavePlanColumns& columns, const std::vector<std::uint32_t>& kept) {
  if (!columns.chunk_indices) return nullptr;
  auto chunk_indices = std::make_shared<std::vector<std::int64_t>>();
  std::size_t next = 0;
  const columns::SavePlanView view = columns.view();
  for (std::size_t position = 0; position < view.size() && next < kept.size(); ++position) {
    if (view.row(position) != kept[next]) continue;
    chunk_indices->push_back(view.chunk_index(position));
    ++next;
  }
  return chunk_indices;
}

/// Sets chunk indices on items that are kept as objects. This is done here, not at materialization,
/// so that an exception from their class reaches all ranks.
void replace_objects(GlobalObjects& objects, std::uint32_t rank) {
  const SavePlanColumns& columns = objects.plans[rank];
  if (columns.rows->objects.empty()) return;
  const py::object replace = py::reinterpret_borrow<py::object>(UpstreamTypes::get().replace);
  const columns::SavePlanView view = columns.view();
  for (std::uint32_t position = 0; position < view.size(); ++position) {
    const std::int64_t chunk_index = objects.plan.chunk_indices[rank][position];
    if (chunk_index == columns::kNoChunkIndex || !columns.rows->is_object(view.row(position)))
      continue;
    const py::object item = columns.rows->item(view.row(position));
    const py::object index = replace(item.attr("index"), py::arg("index") = chunk_index);
    objects.replaced[{rank, position}] = replace(item, py::arg("index") = index);
  }
}

py::dict make_metadata(const std::shared_ptr<GlobalObjects>& objects,
                       const std::vector<py::object>& names, const py::object& fill) {
  const auto bytes = py::reinterpret_borrow<py::object>(
      reinterpret_cast<PyObject*>(UpstreamTypes::get().bytes_metadata));
  py::dict metadata;
  for (std::uint32_t at = 0; at < objects->plan.entries.size(); ++at) {
    const planning::SavedEntry& entry = objects->plan.entries[at];
    if (entry.bytes) {
      metadata[names[at]] = bytes();
      continue;
    }
    // Size and properties are the objects of the first item.
    const py::object first = objects->plans[entry.first.plan].tensor_data(entry.first.position);
    metadata[names[at]] = make_tensor_metadata(
        first.attr("properties"), first.attr("size"),
        fill(std::static_pointer_cast<ChunkColumns>(std::make_shared<PlannedChunks>(objects, at))));
  }
  return metadata;
}

bool same_row(const SavePlanColumns& a, const SavePlanColumns& b, std::size_t position,
              bool every_property) {
  const columns::SavePlanView of_a = a.view();
  const columns::SavePlanView of_b = b.view();
  if (of_a.kind(position) != of_b.kind(position) ||
      of_a.chunk_index(position) != of_b.chunk_index(position) ||
      !std::ranges::equal(of_a.shape(position), of_b.shape(position)) ||
      !std::equal(of_a.numbers(position), of_a.numbers(position) + 2 * of_a.ndim(position),
                  of_b.numbers(position))) {
    return false;
  }
  PyObject* name = a.name(position);
  PyObject* other = b.name(position);
  if (name != other && PyUnicode_Compare(name, other) != 0) return false;
  if (!every_property || !columns::writes_tensor(of_a.kind(position))) return true;
  const PropertyValues& values = a.properties(position);
  const PropertyValues& others = b.properties(position);
  if (values.size() != others.size()) return false;
  for (std::size_t field = 0; field < values.size(); ++field) {
    if (!values[field].is(others[field]) && !values[field].equal(others[field])) return false;
  }
  return true;
}

}  // namespace

std::optional<py::list> dedup_plans(const py::list& plans, const std::string& keeper) {
  const planning::Keeper kept_by = planning::keeper_named(keeper);
  RankPlans all;
  if (!all.read(plans)) return std::nullopt;
  std::vector<columns::RankPlan> ranks = all.ranks();
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    ranks[rank].element_size = all.plans[rank].table->element_sizes();
  }
  planning::Coordinator coordinator(std::move(ranks), all.names->size());
  if (!coordinator.drop_replicas(kept_by, set_order)) return std::nullopt;
  py::list made;
  for (std::size_t rank = 0; rank < all.plans.size(); ++rank) {
    const std::vector<std::uint32_t>& kept = coordinator.kept()[rank];
    auto columns = std::make_shared<SavePlanColumns>(all.plans[rank]);
    if (kept.size() != columns->size()) {
      columns->chunk_indices = chunk_indices_of(*columns, kept);
      columns->chosen = std::make_shared<const std::vector<std::uint32_t>>(kept);
    }
    columns->names = all.names;
    made.append(std::move(columns));
  }
  return made;
}

std::optional<py::tuple> plan_globally(const py::list& plans, const py::object& fill) {
  RankPlans all;
  if (!all.read(plans)) return std::nullopt;
  planning::Coordinator coordinator(all.ranks(), all.names->size());
  if (!coordinator.plan()) return std::nullopt;
  auto objects = std::make_shared<GlobalObjects>();
  objects->plan = coordinator.take_global();
  objects->plans = all.plans;
  objects->name_of_entry = all.name_of_entry;
  objects->items.resize(all.plans.size());
  objects->chunks.resize(objects->plan.entries.size());
  objects->entry_of_name.resize(all.names->size());
  std::vector<py::object> names;
  for (std::uint32_t at = 0; at < objects->plan.entries.size(); ++at) {
    const planning::SavedEntry& entry = objects->plan.entries[at];
    objects->entry_of_name[entry.name] = at;
    names.push_back(
        py::reinterpret_borrow<py::object>(all.plans[entry.first.plan].name(entry.first.position)));
  }
  const CollectorPause pause;
  py::list made;
  for (std::uint32_t rank = 0; rank < all.plans.size(); ++rank) {
    auto columns = std::make_shared<SavePlanColumns>(all.plans[rank]);
    columns->chunk_indices = {objects, &objects->plan.chunk_indices[rank]};
    columns->names = nullptr;
    columns->global = objects;
    columns->rank = rank;
    columns->rows->planned = objects;
    columns->rows->rank = rank;
    replace_objects(*objects, rank);
    made.append(std::move(columns));
  }
  return py::make_tuple(made, make_metadata(objects, names, fill));
}

void fill_chunks(const py::dict& state_dict_metadata) {
  const UpstreamTypes& types = UpstreamTypes::get();
  const CollectorPause pause;
  for (const py::handle saved : py::list(state_dict_metadata.attr("values")())) {
    if (Py_TYPE(saved.ptr()) != types.tensor_metadata) continue;
    const py::object chunks = read_attribute(saved.ptr(), types.chunks);
    if (!chunks || !PyList_Check(chunks.ptr()) || PyList_CheckExact(chunks.ptr())) continue;
    const py::object columns = read_attribute(chunks.ptr(), types.columns);
    if (!columns) continue;
    py::object exact;
    if (py::isinstance<ChunkColumns>(columns)) {
      exact = columns.cast<ChunkColumns&>().items();
    } else if (columns.is_none()) {
      exact = checked(PyList_GetSlice(chunks.ptr(), 0, PyList_GET_SIZE(chunks.ptr())));
    } else {
      continue;
    }
    saved.attr("chunks") = exact;
  }
}

std::optional<bool> same_items(const py::object& items, const py::object& other,
                               bool every_property) {
  auto a = save_columns_of(items);
  auto b = save_columns_of(other);
  if (!a || !b) return std::nullopt;
  a = up_to_date(a);
  b = up_to_date(b);
  if (!a->rows->objects.empty() || !b->rows->objects.empty()) return std::nullopt;
  if (a->size() != b->size()) return false;
  for (std::size_t position = 0; position < a->size(); ++position) {
    if (!same_row(*a, *b, position, every_property)) return false;
  }
  return true;
}

}  // namespace shardplan::bindings
