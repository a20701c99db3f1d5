#include "bindings/torch/columns/read_item_reader.h"

#include <algorithm>

#include "bindings/torch/upstream/object_reader.h"
#include "core/wire/save_plan.h"

namespace shardplan::bindings {
namespace {

class ReadItemReader {
 public:
  void add(const py::object& item) {
    if (read(item.ptr())) return;
    columns_.rows.push(columns::ReadKind::kObject,
                       static_cast<std::uint32_t>(columns_.tables.objects.size()));
    columns_.tables.objects.push_back(item);
  }

  LoadPlanColumns take() { return std::move(columns_); }

 private:
  bool read(PyObject* item) {
    const UpstreamTypes& types = UpstreamTypes::get();
    const py::object all = attributes_of(item, types.read_item, 6);
    if (!all) return false;
    UpstreamIndex wanted;
    UpstreamIndex saved;
    Numbers dest;
    Numbers storage;
    Numbers lengths;
    if (!read_upstream_index(attribute(all, types.dest_index), wanted) ||
        !read_upstream_index(attribute(all, types.storage_index), saved) ||
        !wanted.name.equal(saved.name) || !read_size(attribute(all, types.dest_offsets), dest) ||
        !read_size(attribute(all, types.storage_offsets), storage) ||
        !read_size(attribute(all, types.lengths), lengths)) {
      return false;
    }
    PyObject* type = attribute(all, types.type);
    if (type == types.read_bytes) {
      const Numbers zero{0};
      if (wanted.offset || saved.offset || wanted.chunk_index || saved.chunk_index ||
          dest != zero || storage != zero || lengths != zero) {
        return false;
      }
      columns_.rows.push(columns::ReadKind::kBytes, name_row(wanted.name));
      return true;
    }
    if (type != types.read_tensor || !wanted.offset || !saved.offset || !wanted.chunk_index ||
        !saved.chunk_index) {
      return false;
    }
    const std::size_t ndim = dest.size();
    const Numbers* numbers[] = {&*wanted.offset, &*saved.offset, &dest, &storage, &lengths};
    const auto as_long = [ndim](const Numbers* column) { return column->size() == ndim; };
    if (ndim > columns::kMaxDims || !std::ranges::all_of(numbers, as_long)) return false;
    std::int64_t* out = columns_.rows.push(columns::ReadKind::kTensor, name_row(wanted.name),
                                           static_cast<std::size_t>(*wanted.chunk_index),
                                           static_cast<std::size_t>(*saved.chunk_index), ndim);
    for (const Numbers* column : numbers) out = std::ranges::copy(*column, out).out;
    return true;
  }

  std::uint32_t name_row(const py::object& name) {
    auto& names = columns_.tables.names;
    if (names.empty() || !names.back().is(name)) names.push_back(name);
    return static_cast<std::uint32_t>(names.size() - 1);
  }

  LoadPlanColumns columns_;
};

}  // namespace

LoadPlanColumns read_read_items(const py::object& list) {
  ReadItemReader reader;
  for (Py_ssize_t at = 0; at < PyList_GET_SIZE(list.ptr()); ++at) {
    reader.add(list_item(list.ptr(), at));
  }
  return reader.take();
}

}  // namespace shardplan::bindings
