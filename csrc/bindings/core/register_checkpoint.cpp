#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bindings/common/pickle_source.h"
#include "bindings/core/register.h"
#include "bindings/core/signal_pulse.h"
#include "core/boxes/arrangement.h"
#include "core/boxes/validate.h"
#include "core/inspect/checkpoint.h"
#include "core/inspect/reshard_cost.h"
#include "core/inspect/storage_faults.h"

namespace shardplan::bindings {
namespace {

using Numbers = std::vector<std::int64_t>;

py::str text_of(std::string_view text) {
  // A file can name what is no UTF-8; it is shown, never looked up.
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
}

/// The texts of a file as Python's, each made once: a file can refer to a long one for each row.
class Texts {
 public:
  explicit Texts(const util::TextTable& table) : table_(table) {}

  const py::str& operator[](std::uint32_t number) {
    const auto known = made_.find(number);
    if (known != made_.end()) return known->second;
    return made_.emplace(number, text_of(table_[number])).first->second;
  }

 private:
  const util::TextTable& table_;
  std::unordered_map<std::uint32_t, py::str> made_;
};

std::unique_ptr<inspect::Checkpoint> read(const py::object& readinto) {
  const util::Pulse pulse = signal_pulse();
  const pickle::Source source = source_of(readinto);
  try {
    const py::gil_scoped_release unlocked;
    return std::make_unique<inspect::Checkpoint>([&](char* into, std::size_t at_most) {
      pulse.check();
      return source(into, at_most);
    });
  } catch (const pickle::BadPickle& problem) {
    throw py::value_error(problem.what());
  }
}

void check_entry(const inspect::Checkpoint& checkpoint, std::size_t entry) {
  if (entry >= checkpoint.chunks().size()) {
    throw py::index_error("there is no entry " + std::to_string(entry));
  }
}

const char* kind_name(columns::WriteKind kind) {
  if (kind == columns::WriteKind::kBytes) return "object";
  return columns::writes_tensor(kind) ? "tensor" : "unknown";
}

py::list entries(const inspect::Checkpoint& checkpoint) {
  py::list all;
  for (std::size_t entry = 0; entry < checkpoint.chunks().size(); ++entry) {
    const columns::SaveTable& table = checkpoint.chunks().table;
    const auto shape = table.specs.shape(table.spec[entry]);
    all.append(py::make_tuple(text_of(checkpoint.name(entry)), kind_name(checkpoint.kind(entry)),
                              text_of(checkpoint.dtype(entry)), Numbers(shape.begin(), shape.end()),
                              checkpoint.chunks().chunk_count(entry)));
  }
  return all;
}

/// Nothing where a box ends beyond int64.
std::optional<boxes::Boxes> boxes_of(const inspect::Checkpoint& checkpoint, std::size_t entry) {
  check_entry(checkpoint, entry);
  boxes::Boxes boxes(checkpoint.chunks().ndim(entry));
  if (!checkpoint.chunks().append_to(boxes, entry)) return std::nullopt;
  return boxes;
}

py::list arrangements(const inspect::Checkpoint& checkpoint) {
  std::vector<boxes::Arrangement> found;
  const util::Pulse pulse = signal_pulse();
  {
    const py::gil_scoped_release unlocked;
    for (std::size_t entry = 0; entry < checkpoint.chunks().size(); ++entry) {
      pulse.check();
      boxes::Boxes boxes(checkpoint.chunks().ndim(entry));
      const bool fits = checkpoint.chunks().append_to(boxes, entry);
      found.push_back(fits ? boxes::recognise(boxes)
                           : boxes::Arrangement{boxes::Arrangement::Kind::kIrregular, {}, false});
    }
  }
  py::list all;
  for (const boxes::Arrangement& one : found) {
    all.append(py::make_tuple(arrangement_name(one.kind), one.parts, one.even));
  }
  return all;
}

py::object location(const inspect::Checkpoint& checkpoint, Texts& paths, std::uint32_t row) {
  if (row == inspect::Checkpoint::kNowhere) return py::none();
  const columns::StorageRows& locations = checkpoint.locations();
  const bool transformed = std::ranges::binary_search(checkpoint.transformed(), row);
  return py::make_tuple(paths[locations.path[row]], locations.begin[row], locations.length[row],
                        transformed);
}

py::list locations_of(const inspect::Checkpoint& checkpoint, std::size_t entry) {
  check_entry(checkpoint, entry);
  py::list all;
  Texts paths(*checkpoint.locations().paths);
  if (!columns::writes_tensor(checkpoint.kind(entry))) {
    all.append(location(checkpoint, paths, checkpoint.location_of_object(entry)));
    return all;
  }
  const columns::SavedChunks& saved = checkpoint.chunks();
  for (std::size_t at = saved.begin[entry]; at < saved.begin[entry + 1]; ++at) {
    all.append(location(checkpoint, paths, checkpoint.location_of_chunk(at)));
  }
  return all;
}

py::list invalid_entries(const inspect::Checkpoint& checkpoint, bool must_fill) {
  std::vector<std::size_t> found;
  const util::Pulse pulse = signal_pulse();
  {
    const py::gil_scoped_release unlocked;
    const columns::SavedChunks& saved = checkpoint.chunks();
    for (std::size_t entry = 0; entry < saved.size(); ++entry) {
      pulse.check();
      if (!columns::writes_tensor(checkpoint.kind(entry))) continue;
      boxes::Boxes boxes(saved.ndim(entry));
      const auto shape = saved.table.specs.shape(saved.table.spec[entry]);
      const bool sound = saved.append_to(boxes, entry) &&
                         (!shape.empty() || !must_fill || !boxes.empty()) &&
                         boxes::check_boxes(boxes, shape, must_fill) == boxes::Fault::kNone;
      if (!sound) found.push_back(entry);
    }
  }
  return py::cast(found);
}

py::dict faults_of(const inspect::Checkpoint& checkpoint, const py::dict& file_sizes) {
  const columns::StorageRows& locations = checkpoint.locations();
  Numbers sizes(locations.paths->size(), -1);
  for (const std::uint32_t path : locations.path) {
    const py::str name = text_of((*locations.paths)[path]);
    if (sizes[path] < 0 && file_sizes.contains(name)) {
      sizes[path] = file_sizes[name].cast<std::int64_t>();
    }
  }
  inspect::StorageFaults faults;
  std::vector<inspect::Checkpoint::Part> parts;
  {
    const py::gil_scoped_release unlocked;
    faults = inspect::check_storage(checkpoint, sizes);
    parts = checkpoint.parts_of_locations();
  }
  const auto part = [](const inspect::Checkpoint::Part& found) -> py::object {
    if (found.entry == inspect::Checkpoint::kNowhere) return py::none();
    if (found.chunk == inspect::Checkpoint::kNowhere)
      return py::make_tuple(found.entry, py::none());
    return py::make_tuple(found.entry, found.chunk);
  };
  Texts names(*locations.names);
  Texts paths(*locations.paths);
  const auto rows = [&](const std::vector<std::size_t>& found) {
    py::list listed;
    for (const std::size_t row : found) {
      listed.append(py::make_tuple(part(parts[row]), names[locations.name[row]],
                                   location(checkpoint, paths, static_cast<std::uint32_t>(row))));
    }
    return listed;
  };
  py::list without_location;
  for (const std::size_t chunk : faults.chunks_without_location) {
    without_location.append(part(checkpoint.part_of_chunk(chunk)));
  }
  for (const std::size_t entry : faults.objects_without_location) {
    without_location.append(py::make_tuple(entry, py::none()));
  }
  using RowPairs = std::vector<std::pair<std::size_t, std::size_t>>;
  const auto pairs = [&](const RowPairs& found) {
    py::list listed;
    for (const auto& [a, b] : found) listed.append(rows({a, b}));
    return listed;
  };
  py::dict all;
  all["unplaced"] = without_location;
  all["unclaimed"] = rows(faults.unclaimed);
  all["no_file"] = rows(faults.no_file);
  all["beyond_end"] = rows(faults.beyond_end);
  all["shared"] = pairs(faults.shared);
  all["repeated"] = pairs(faults.repeated);
  return all;
}

py::list files_of(const inspect::Checkpoint& checkpoint) {
  struct File {
    std::size_t items = 0;
    std::int64_t bytes = 0;
    std::int64_t end = 0;
  };
  const columns::StorageRows& locations = checkpoint.locations();
  std::vector<File> files(locations.paths->size());
  for (std::size_t row = 0; row < locations.size(); ++row) {
    if (checkpoint.is_replaced(row)) continue;
    File& file = files[locations.path[row]];
    ++file.items;
    // Sums of hostile numbers wrap; that they are out of range is said by the check.
    file.bytes = static_cast<std::int64_t>(static_cast<std::uint64_t>(file.bytes) +
                                           static_cast<std::uint64_t>(locations.length[row]));
    const auto end = static_cast<std::int64_t>(static_cast<std::uint64_t>(locations.begin[row]) +
                                               static_cast<std::uint64_t>(locations.length[row]));
    file.end = std::max(file.end, end);
  }
  py::list all;
  for (std::size_t path = 0; path < files.size(); ++path) {
    if (files[path].items == 0) continue;
    all.append(py::make_tuple(text_of((*locations.paths)[path]), files[path].items,
                              files[path].bytes, files[path].end));
  }
  return all;
}

Numbers stored_of(const inspect::Checkpoint& checkpoint) {
  const columns::SavedChunks& saved = checkpoint.chunks();
  Numbers bytes(saved.size());
  const auto add = [&](std::size_t entry, std::uint32_t row) {
    if (row == inspect::Checkpoint::kNowhere) return;
    bytes[entry] =
        static_cast<std::int64_t>(static_cast<std::uint64_t>(bytes[entry]) +
                                  static_cast<std::uint64_t>(checkpoint.locations().length[row]));
  };
  for (std::size_t entry = 0; entry < saved.size(); ++entry) {
    if (!columns::writes_tensor(checkpoint.kind(entry)))
      add(entry, checkpoint.location_of_object(entry));
    for (std::size_t at = saved.begin[entry]; at < saved.begin[entry + 1]; ++at) {
      add(entry, checkpoint.location_of_chunk(at));
    }
  }
  return bytes;
}

py::list reshard(const inspect::Checkpoint& checkpoint, const Numbers& mesh_shape,
                 const std::vector<std::vector<PlacementTuple>>& layouts,
                 const std::vector<std::uint32_t>& layout_of, const Numbers& element_sizes) {
  const auto parsed = layouts_from(layouts);
  const util::Pulse pulse = signal_pulse();
  std::vector<inspect::RankCost> costs;
  {
    const py::gil_scoped_release unlocked;
    costs = inspect::reshard_cost(checkpoint, mesh_shape, parsed, layout_of, element_sizes, pulse);
  }
  py::list all;
  for (const inspect::RankCost& cost : costs) {
    all.append(py::make_tuple(cost.wanted, cost.read, cost.requests, cost.files));
  }
  return all;
}

py::list remarks(const inspect::Checkpoint& checkpoint) {
  py::list all;
  for (const auto& [name, value] : checkpoint.remarks()) {
    all.append(py::make_tuple(text_of(name), text_of(value)));
  }
  return all;
}

}  // namespace

void register_checkpoint(py::module_& m) {
  py::class_<inspect::Checkpoint>(
      m, "Checkpoint", "The metadata of a checkpoint, to be looked at; nothing in it is called.")
      .def(py::init(&read), py::arg("readinto"),
           "Reads a metadata file. ValueError where it is broken, or names another global than a "
           "checkpoint's metadata does; says which, and at which byte.")
      .def("remarks", &remarks, "What it says of itself: pairs of a name and a text.")
      .def("entries", &entries, "(name, tensor / object / unknown, dtype, shape, chunks) an entry.")
      .def("arrangements", &arrangements, "An entry: what arrangement() says of its boxes.")
      .def("boxes", &boxes_of, py::arg("entry"),
           "The boxes of an entry, or None where one ends beyond int64.")
      .def("places", &locations_of, py::arg("entry"),
           "(file, first byte, bytes, whether they are transformed) a chunk, or None.")
      .def("stored", &stored_of, "Bytes that each entry takes in files.")
      .def("files", &files_of, "(file, items, bytes, where its last item ends) a file.")
      .def_property_readonly("odd_places", &inspect::Checkpoint::unreadable_locations,
                             "Items of storage_data that say no place.")
      .def("unsound", &invalid_entries, py::arg("must_fill"),
           "The entries whose boxes are out of bounds, overlap or, where asked for, leave holes.")
      .def("faults", &faults_of, py::arg("file_sizes"),
           "What is wrong with where the parts lie. file_sizes: a file -> its bytes.")
      .def("reshard", &reshard, py::arg("mesh_shape"), py::arg("layouts"), py::arg("layout_of"),
           py::arg("element_sizes"),
           "(bytes wanted, bytes read, requests, files) a rank, to load it on this mesh. A signal "
           "stops it.")
      .def(
          "reshard_memory",
          [](const inspect::Checkpoint& checkpoint, const Numbers& mesh_shape,
             const std::vector<std::vector<PlacementTuple>>& layouts,
             const std::vector<std::uint32_t>& layout_of) {
            return inspect::reshard_memory(checkpoint, mesh_shape, layouts_from(layouts),
                                           layout_of);
          },
          py::arg("mesh_shape"), py::arg("layouts"), py::arg("layout_of"),
          "Bytes of memory that reshard() takes at its peak, to a factor of two or so.");
}

}  // namespace shardplan::bindings
