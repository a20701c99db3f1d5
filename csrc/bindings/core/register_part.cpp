#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/common/python_object.h"
#include "bindings/common/range_source.h"
#include "bindings/core/check_options.h"
#include "bindings/core/register.h"
#include "bindings/core/signal_pulse.h"
#include "core/data/part_check.h"
#include "core/data/tensor_part.h"
#include "core/data/zip_part.h"

namespace shardplan::bindings {
namespace {

py::str text_of(std::string_view text) {
  // Names in a file may not be UTF-8. They are only displayed.
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
}

/// A part that is read with a caller's `readinto(offset, buffer)`. The GIL is acquired for each
/// block. Signal handlers run while the part is read; their exceptions stop it.
class StoredPart {
 public:
  StoredPart(py::object readinto, std::uint64_t length)
      : readinto_(std::move(readinto)), part_(directory(length)) {}

  py::list members() const {
    py::list all;
    for (const data::ZipMember& member : part_.members()) {
      all.append(py::make_tuple(text_of(member.name), member.begin, member.size, member.crc));
    }
    return all;
  }

  /// Returns the first member with a checksum mismatch, or None. A part without checksums is read
  /// too, because its file may be truncated.
  py::object damaged_member() const {
    const util::Pulse pulse = signal_pulse();
    const data::ZipMember* damaged = nullptr;
    {
      const py::gil_scoped_release unlocked;
      const data::PartBytes bytes = source(pulse);
      for (const data::ZipMember& member : part_.members()) {
        if (data::checksum_of(bytes, member) == member.crc || !part_.has_checksums()) continue;
        damaged = &member;
        break;
      }
    }
    if (damaged == nullptr) return py::none();
    return text_of(damaged->name);
  }

  bool has_checksums() const { return part_.has_checksums(); }

  py::dict tensor() const {
    const util::Pulse pulse = signal_pulse();
    data::StoredTensor found;
    {
      const py::gil_scoped_release unlocked;
      found = data::read_tensor_part(source(pulse), part_);
    }
    py::dict all;
    all["dtype"] = text_of(found.dtype);
    all["element_size"] = found.element_size;
    all["shape"] = found.shape;
    all["strides"] = found.strides;
    all["storage_offset"] = found.storage_offset;
    all["storage_key"] = text_of(found.storage_key);
    all["device"] = text_of(found.device);
    all["is_parameter"] = found.is_parameter;
    all["requires_grad"] = found.requires_grad;
    all["big_endian"] = found.big_endian;
    all["storage_begin"] = found.storage_begin;
    all["storage_size"] = found.storage_size;
    all["begin"] = found.begin;
    all["reach"] = found.reach;
    return all;
  }

 private:
  data::ZipPart directory(std::uint64_t length) const {
    const util::Pulse pulse = signal_pulse();
    const py::gil_scoped_release unlocked;
    return data::ZipPart(source(pulse), length);
  }

  data::PartBytes source(const util::Pulse& pulse) const {
    return [this, &pulse](std::uint64_t offset, char* into, std::size_t count) {
      pulse.check();
      const py::gil_scoped_acquire lock;
      const auto view = py::memoryview::from_memory(into, static_cast<py::ssize_t>(count));
      const py::object got = readinto_(offset, view);
      view.attr("release")();
      std::int64_t given = 0;
      if (!read_int(got.ptr(), given) || given < 0) {
        throw py::type_error("readinto(offset, buffer) must return the number of bytes read");
      }
      return static_cast<std::size_t>(given);
    };
  }

  py::object readinto_;
  data::ZipPart part_;
};

/// (file of a, first byte, bytes, file of b, first byte, bytes, shape, dtype)
using PairTuple = std::tuple<std::size_t, std::uint64_t, std::uint64_t, std::size_t, std::uint64_t,
                             std::uint64_t, std::vector<std::int64_t>, std::string>;

std::vector<std::size_t> unequal_parts(const std::vector<std::string>& files,
                                       const std::vector<py::object>& read_ranges,
                                       const std::vector<PairTuple>& pairs, std::size_t threads,
                                       const py::object& progress) {
  if (read_ranges.size() != files.size()) {
    throw py::value_error("there is one read_range per file");
  }
  std::vector<data::PartPair> all;
  all.reserve(pairs.size());
  for (const auto& [file_a, begin_a, length_a, file_b, begin_b, length_b, shape, dtype] : pairs) {
    if (file_a >= files.size() || file_b >= files.size()) throw py::index_error("no such file");
    all.push_back({static_cast<std::uint32_t>(file_a),
                   static_cast<std::uint32_t>(file_b),
                   {begin_a, length_a, true, shape, dtype},
                   {begin_b, length_b, true, shape, dtype}});
  }
  const bool is_local =
      std::ranges::all_of(read_ranges, [](const py::object& one) { return one.is_none(); });
  const data::CheckOptions options = check_options(threads, is_local, progress);
  const data::OpenFile open = [&](std::uint32_t file) {
    return open_source(files[file], read_ranges[file]);
  };
  const py::gil_scoped_release unlocked;
  return data::find_unequal(open, all, options);
}

}  // namespace

void register_part(py::module_& m) {
  m.def("unequal_parts", &unequal_parts, py::arg("files"), py::arg("read_ranges"), py::arg("pairs"),
        py::arg("threads"), py::arg("progress"),
        "Compares pairs of parts, and returns the positions of those that are not known to be "
        "equal.");
  // Translators run in reverse order of registration, so the derived class comes last.
  py::register_local_exception<data::BadPart>(m, "BadPart", PyExc_ValueError);
  py::register_local_exception<data::UnreadPart>(m, "UnreadPart", m.attr("BadPart"));
  py::class_<StoredPart>(
      m, "StoredPart",
      "A part of a data file, written by ``torch.save``. Nothing that it names is called.")
      .def(py::init<py::object, std::uint64_t>(), py::arg("readinto"), py::arg("length"),
           "Reads the directory of the zip. ``readinto(offset, buffer)`` returns the bytes read, 0 "
           "only at the end. Raises BadPart or UnreadPart.")
      .def("members", &StoredPart::members,
           "Returns (name, first byte, bytes, CRC-32) of each member, in file order.")
      .def_property_readonly("has_checksums", &StoredPart::has_checksums,
                             "False if torch was configured to omit checksums.")
      .def("damaged_member", &StoredPart::damaged_member,
           "Returns the first member with a checksum mismatch, or None. Reads all data once.")
      .def("tensor", &StoredPart::tensor,
           "Returns the stored tensor. Does not verify checksums. Raises BadPart or UnreadPart.");
}

}  // namespace shardplan::bindings
