#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bindings/common/pickle_source.h"
#include "bindings/common/range_source.h"
#include "bindings/core/check_options.h"
#include "bindings/core/register.h"
#include "bindings/core/signal_pulse.h"
#include "core/boxes/arrangement.h"
#include "core/data/part_check.h"
#include "core/inspect/checkpoint.h"
#include "core/inspect/entry_boxes.h"
#include "core/inspect/reshard_cost.h"
#include "core/inspect/reshard_schedule.h"
#include "core/inspect/storage_faults.h"
#include "core/inspect/usage.h"

namespace shardplan::bindings {
namespace {

using Numbers = std::vector<std::int64_t>;

py::str text_of(std::string_view text) {
  // A text that is not UTF-8 is displayed, never looked up.
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
}

/// The texts of a file as Python strings, each made once, because many rows can refer to a long
/// one.
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

std::optional<boxes::Boxes> boxes_of(const inspect::Checkpoint& checkpoint, std::size_t entry) {
  check_entry(checkpoint, entry);
  return inspect::boxes_of(checkpoint, entry);
}

py::list arrangements(const inspect::Checkpoint& checkpoint) {
  const util::Pulse pulse = signal_pulse();
  const auto found = [&] {
    const py::gil_scoped_release unlocked;
    return inspect::arrangements(checkpoint, pulse);
  }();
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

std::vector<std::size_t> invalid_entries(const inspect::Checkpoint& checkpoint, bool must_fill) {
  const util::Pulse pulse = signal_pulse();
  const py::gil_scoped_release unlocked;
  return inspect::invalid_entries(checkpoint, must_fill, pulse);
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
  all["without_location"] = without_location;
  all["unclaimed"] = rows(faults.unclaimed);
  all["no_file"] = rows(faults.no_file);
  all["beyond_end"] = rows(faults.beyond_end);
  all["shared"] = pairs(faults.shared);
  all["repeated"] = pairs(faults.repeated);
  return all;
}

py::list files_of(const inspect::Checkpoint& checkpoint) {
  const std::vector<inspect::FileUsage> files = inspect::file_usage(checkpoint);
  py::list all;
  for (std::size_t path = 0; path < files.size(); ++path) {
    const inspect::FileUsage& file = files[path];
    if (file.items == 0) continue;
    all.append(py::make_tuple(text_of((*checkpoint.locations().paths)[path]), file.items,
                              file.bytes, file.end));
  }
  return all;
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

py::list schedule(const inspect::Checkpoint& checkpoint, const Numbers& mesh_shape,
                  const std::vector<std::vector<PlacementTuple>>& layouts,
                  const std::vector<std::uint32_t>& layout_of, const Numbers& element_sizes,
                  std::size_t rank) {
  const auto parsed = layouts_from(layouts);
  const util::Pulse pulse = signal_pulse();
  std::vector<inspect::ScheduledPart> parts;
  {
    const py::gil_scoped_release unlocked;
    parts = inspect::reshard_schedule(checkpoint, mesh_shape, parsed, layout_of, element_sizes,
                                      rank, pulse);
  }
  const columns::StorageRows& locations = checkpoint.locations();
  Texts paths(*locations.paths);
  py::list all;
  for (inspect::ScheduledPart& one : parts) {
    const bool is_object = one.part.chunk == inspect::Checkpoint::kNowhere;
    all.append(py::make_tuple(one.part.entry,
                              is_object ? py::object(py::none()) : py::int_(one.part.chunk),
                              paths[locations.path[one.location]], locations.begin[one.location],
                              locations.length[one.location], std::move(one.offsets),
                              std::move(one.lengths), one.wanted_bytes, one.reads, one.read_bytes));
  }
  return all;
}

/// A part: the index of its entry, and of its chunk; no chunk if it is an object.
using PartTuple = std::pair<std::size_t, std::optional<std::size_t>>;

data::ExpectedPart expected_part(const inspect::Checkpoint& checkpoint, const PartTuple& part) {
  const auto& [entry, chunk] = part;
  check_entry(checkpoint, entry);
  const columns::SavedChunks& saved = checkpoint.chunks();
  if (chunk && *chunk >= saved.chunk_count(entry)) {
    throw py::index_error("entry " + std::to_string(entry) + " has no chunk " +
                          std::to_string(*chunk));
  }
  const std::uint32_t row = chunk ? checkpoint.location_of_chunk(saved.begin[entry] + *chunk)
                                  : checkpoint.location_of_object(entry);
  const columns::StorageRows& locations = checkpoint.locations();
  if (row == inspect::Checkpoint::kNowhere || locations.begin[row] < 0 ||
      locations.length[row] < 0) {
    throw py::value_error("a part of entry " + std::to_string(entry) + " has no location");
  }
  data::ExpectedPart expected{static_cast<std::uint64_t>(locations.begin[row]),
                              static_cast<std::uint64_t>(locations.length[row]),
                              chunk.has_value(),
                              {},
                              {}};
  if (chunk) {
    const std::size_t ndim = saved.ndim(entry);
    expected.shape = {saved.chunk(entry, *chunk) + ndim, ndim};
    expected.dtype = checkpoint.dtype(entry);
  }
  return expected;
}

std::vector<std::size_t> unsound_parts(const inspect::Checkpoint& checkpoint,
                                       const std::vector<PartTuple>& parts, const std::string& path,
                                       const py::object& read_range, std::size_t threads,
                                       const py::object& progress) {
  std::vector<data::ExpectedPart> expected;
  expected.reserve(parts.size());
  for (const PartTuple& part : parts) {
    expected.push_back(expected_part(checkpoint, part));
    if (expected.size() > 1 && expected.back().begin < (expected.end() - 2)->begin) {
      throw py::value_error("the parts are not sorted by their first byte");
    }
  }
  const data::CheckOptions options = check_options(threads, read_range.is_none(), progress);
  const py::gil_scoped_release unlocked;
  try {
    return data::find_unsound(open_source(path, read_range), expected, options);
  } catch (const std::system_error& error) {
    const py::gil_scoped_acquire lock;
    errno = error.code().value();
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    throw py::error_already_set();
  }
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
      m, "Checkpoint",
      "The metadata of a checkpoint. Nothing that the file names is imported or called.")
      .def(py::init(&read), py::arg("readinto"),
           "Reads a metadata file. Raises ValueError, with the byte offset, if it is not readable.")
      .def("remarks", &remarks,
           "Returns (name, text) pairs of the metadata's own attributes, such as the version.")
      .def("entries", &entries, "Returns (name, kind, dtype, shape, number of chunks) per entry.")
      .def("arrangements", &arrangements, "Returns arrangement() of the boxes of each entry.")
      .def("boxes", &boxes_of, py::arg("entry"),
           "Returns the boxes of an entry; None if one ends beyond int64.")
      .def("locations", &locations_of, py::arg("entry"),
           "Returns (file, first byte, bytes, is transformed) per chunk; None if missing.")
      .def("stored_bytes", &inspect::stored_bytes, "Returns the bytes in files of each entry.")
      .def("files", &files_of, "Returns (file, items, bytes, end of the last item) per file.")
      .def_property_readonly("unreadable_locations", &inspect::Checkpoint::unreadable_locations,
                             "Number of storage_data items with no readable location.")
      .def("invalid_entries", &invalid_entries, py::arg("must_fill"),
           "Returns the entries with boxes out of bounds, overlaps or, if must_fill, holes.")
      .def("faults", &faults_of, py::arg("file_sizes"),
           "Returns the faults of locations. file_sizes: file -> bytes.")
      .def("unsound_parts", &unsound_parts, py::arg("parts"), py::arg("path"),
           py::arg("read_range"), py::arg("threads"), py::arg("progress"),
           "Reads parts of one file, sorted by first byte, and returns the positions of those that "
           "are not known to be sound.")
      .def("reshard", &reshard, py::arg("mesh_shape"), py::arg("layouts"), py::arg("layout_of"),
           py::arg("element_sizes"),
           "Returns (bytes wanted, bytes read, requests, files) of a load, per rank of the mesh. A "
           "signal interrupts it.")
      .def("schedule", &schedule, py::arg("mesh_shape"), py::arg("layouts"), py::arg("layout_of"),
           py::arg("element_sizes"), py::arg("rank"),
           "Returns the parts that a rank of a mesh reads, in the order of the reads.")
      .def(
          "reshard_memory",
          [](const inspect::Checkpoint& checkpoint, const Numbers& mesh_shape,
             const std::vector<std::vector<PlacementTuple>>& layouts,
             const std::vector<std::uint32_t>& layout_of) {
            return inspect::reshard_memory(checkpoint, mesh_shape, layouts_from(layouts),
                                           layout_of);
          },
          py::arg("mesh_shape"), py::arg("layouts"), py::arg("layout_of"),
          "Returns the estimated peak memory of reshard() in bytes.");
}

}  // namespace shardplan::bindings
