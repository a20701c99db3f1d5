#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>

#include "bindings/torch/data/safetensors_metadata.h"
#include "bindings/torch/data/tensor_loader.h"
#include "bindings/torch/data/tensor_writer.h"
#include "bindings/torch/register.h"
#include "bindings/torch/wire/load_wire.h"
#include "core/data/safetensors_dtypes.h"

namespace shardplan::bindings {

namespace {

void register_writing(py::module_& m) {
  m.def("dispatch_mode_is_active", &dispatch_mode_is_active,
        "Returns whether a dispatch mode is active.");

  py::class_<SavedParts>(m, "SavedParts", "How torch.save lays out parts with some options.")
      .def(py::init<const py::bytes&, py::object>(), py::arg("sample"), py::arg("samples"),
           "Reads it from a part. Raises ValueError if native code does not write such parts.");

  m.def(
      "safetensors_dtypes",
      [] {
        py::dict names;
        for (const data::SafetensorsDtype& dtype : data::kSafetensorsDtypes) {
          if (!dtype.torch.empty()) names[py::str(dtype.torch)] = py::str(dtype.name);
        }
        return names;
      },
      "Returns the dtypes of safetensors files: torch's name -> name in the header.");

  py::class_<TensorWriter>(m, "TensorWriter", "Writes the tensors of a save plan.")
      .def(py::init([](const py::object& items, std::size_t threads, std::size_t memory,
                       py::object progress) {
             return std::make_unique<TensorWriter>(
                 items, TensorWriter::Settings{threads, memory, std::move(progress)});
           }),
           py::arg("items"), py::arg("threads"), py::arg("memory"), py::arg("progress"),
           "Reads the items. Raises ValueError if native code cannot.")
      .def("byte_positions", &TensorWriter::byte_positions, "Returns positions of byte entries.")
      .def("tensor_positions", &TensorWriter::tensor_positions, py::arg("by_size"),
           "Returns positions of tensors. Raises ValueError if a size is unknown.")
      .def("split", &TensorWriter::split, py::arg("files"),
           "Returns the positions in each file. Raises ValueError if a size is unknown.")
      .def(
          "write",
          [](TensorWriter& writer, const py::object& file, std::uint64_t offset,
             std::string_view path, const std::vector<std::size_t>& positions, std::size_t first,
             SavedParts& parts, const py::object& tensors, const py::object& state_dict,
             const py::object& lookup) {
            const Written done = writer.write(file, offset, path, positions, first, parts, tensors,
                                              state_dict, lookup);
            return py::make_tuple(done.count, done.offset, done.failure);
          },
          py::arg("file"), py::arg("offset"), py::arg("path"), py::arg("positions"),
          py::arg("first"), py::arg("parts"), py::arg("tensors"), py::arg("state_dict"),
          py::arg("lookup"),
          "Writes tensors until one that native code cannot write. Returns their number, the end "
          "in the file, and (index in ``positions``, errno or exception) of a failure or None.")
      .def("saved_offsets", &TensorWriter::saved_offsets, py::arg("positions"),
           "Returns the JSON text of where the box of each tensor begins.")
      .def(
          "write_safetensors",
          [](TensorWriter& writer, const py::object& file, std::string_view path,
             const std::vector<std::size_t>& positions,
             const std::vector<std::pair<std::string, std::string>>& metadata,
             const py::object& state_dict, const py::object& lookup) -> py::object {
            const auto done =
                writer.write_safetensors(file, path, positions, metadata, state_dict, lookup);
            if (!done) return py::none();
            return py::make_tuple(done->offset, done->failure);
          },
          py::arg("file"), py::arg("path"), py::arg("positions"), py::arg("metadata"),
          py::arg("state_dict"), py::arg("lookup"),
          "Writes a safetensors file. Returns its size, and (index in ``positions``, errno or "
          "exception) of a failure or None; returns None if the safetensors library has to.")
      .def("add", &TensorWriter::add, py::arg("position"), py::arg("path"), py::arg("begin"),
           py::arg("length"), "Adds the location of an item that upstream wrote.")
      .def("stop", &TensorWriter::stop, "Ends all writes with a RuntimeError.")
      .def("end_progress", &TensorWriter::end_progress, "Reports that all have been written.")
      .def("item_at", &TensorWriter::item_at, py::arg("position"), "Returns an item of the plan.")
      .def("results", &TensorWriter::results, "Returns the write results. Called once.");
}

}  // namespace

void register_data(py::module_& m) {
  register_writing(m);
  py::class_<LoadReport>(m, "LoadReport", "The outcome of a load.")
      .def_property_readonly(
          "left",
          [](const LoadReport& report) {
            py::list all;
            for (const LeftItem& item : report.left) {
              all.append(py::make_tuple(item.position, item.reason, item.detail));
            }
            return all;
          },
          "(position, reason, detail) of each item that was not read. Its target is unchanged.")
      .def_property_readonly(
          "failure",
          [](const LoadReport& report) -> py::object {
            if (!report.failure) return py::none();
            return py::make_tuple(report.failure->position, report.failure->what,
                                  report.failure->system_error, report.failure->exception);
          },
          "(position, what, errno, exception) of what ended the load, or None.")
      .def_readonly("unreached", &LoadReport::unreached,
                    "After a failure: the positions that were not read, or not all of them.")
      .def_readonly("bytes_wanted", &LoadReport::bytes_wanted, "Bytes of the boxes.")
      .def_readonly("bytes_read", &LoadReport::bytes_read, "Bytes that were read from files.")
      .def_readonly("reads", &LoadReport::reads, "Number of reads.");

  py::class_<SafetensorsHeaders>(m, "SafetensorsHeaders",
                                 "Headers of local safetensors files, each read once.")
      .def(py::init<>());

  py::class_<SafetensorsMetadata>(m, "SafetensorsMetadata",
                                  "The metadata of a directory of safetensors files.")
      .def(py::init<py::dict>(), py::arg("dtypes"),
           "``dtypes``: torch's name -> dtype, of those that upstream reads.")
      .def("add",
           py::overload_cast<const py::str&, const py::list&, const py::object&>(
               &SafetensorsMetadata::add),
           py::arg("path"), py::arg("names"), py::arg("sharding"),
           "Adds the tensors of a local file. Returns False, and adds nothing, on fallback.")
      .def_property_readonly("entries", &SafetensorsMetadata::entries, "state_dict_metadata")
      .def_property_readonly("locations", &SafetensorsMetadata::locations, "storage_data");

  m.def(
      "load_planned",
      [](const py::object& items, const StorageColumns& storage, const py::object& state_dict,
         const py::object& lookup, std::string directory, std::size_t threads, std::size_t memory,
         bool verify, py::object progress, py::object read_range, SafetensorsHeaders* safetensors) {
        const LoadPlanColumns plan = load_columns_of(items);
        return load_planned(plan, storage, state_dict, lookup,
                            {std::move(directory), threads, memory, verify, std::move(progress),
                             std::move(read_range), safetensors});
      },
      py::arg("items"), py::arg("storage"), py::arg("state_dict"), py::arg("lookup"),
      py::arg("directory"), py::arg("threads"), py::arg("memory"), py::arg("verify"),
      py::arg("progress"), py::arg("read_range"), py::arg("safetensors"),
      "Reads the tensors of a plan into those of a state dict. Returns None on fallback.");
  m.def(
      "read_items_at",
      [](const py::object& items, const std::vector<std::size_t>& positions) {
        const LoadPlanColumns plan = load_columns_of(items);
        py::list made;
        for (const std::size_t position : positions) {
          if (position >= plan.rows.size()) throw py::index_error("no such item");
          made.append(make_read_item_at(plan.rows, plan.tables, position));
        }
        return made;
      },
      py::arg("items"), py::arg("positions"),
      "Creates some items of a load plan that is not materialized.");
  m.def(
      "load_box",
      [](std::string path, std::string name, std::int64_t begin, std::int64_t length,
         std::vector<std::int64_t> offsets, std::vector<std::int64_t> lengths,
         const py::object& target, std::size_t threads, std::size_t memory, bool verify,
         py::object read_range, SafetensorsHeaders* safetensors) {
        return load_box(
            {std::move(path), std::move(name), begin, length, std::move(offsets),
             std::move(lengths)},
            target, {{}, threads, memory, verify, py::none(), std::move(read_range), safetensors});
      },
      py::arg("path"), py::arg("name"), py::arg("begin"), py::arg("length"), py::arg("offsets"),
      py::arg("lengths"), py::arg("target"), py::arg("threads"), py::arg("memory"),
      py::arg("verify"), py::arg("read_range"), py::arg("safetensors"),
      "Reads a box of a part into a tensor. Returns None on fallback.");
}

}  // namespace shardplan::bindings
