#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "bindings/torch/metadata/metadata_file.h"
#include "bindings/torch/metadata/metadata_file_writer.h"
#include "bindings/torch/register.h"
#include "bindings/torch/wire/metadata_wire.h"
#include "core/pickle/machine.h"

namespace shardplan::bindings {
namespace {

/// A list's rows: of results that arrived, or of the upstream WriteResults in it.
std::shared_ptr<const StorageColumns> result_columns(const py::object& results,
                                                     const py::object& source) {
  if (py::isinstance<ReceivedStorage>(source)) return source.cast<ReceivedStorage&>().columns();
  auto rows = read_results(results);
  return rows ? std::make_shared<StorageColumns>(std::move(*rows)) : nullptr;
}

std::shared_ptr<StorageColumns> merge(const py::list& results, const py::list& sources) {
  std::vector<std::shared_ptr<const StorageColumns>> kept;
  std::vector<const columns::StorageRows*> rows;
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    try {
      kept.push_back(result_columns(results[rank], sources[rank]));
    } catch (const py::value_error& error) {
      throw py::value_error("rank " + std::to_string(rank) + ": " + error.what());
    }
    if (!kept.back()) return nullptr;
    rows.push_back(&kept.back()->rows());
  }
  return std::make_shared<StorageColumns>(columns::merge_results(rows));
}

}  // namespace

void register_storage(py::module_& m) {
  static const py::object unpickling_error =
      *new py::object(py::module_::import("pickle").attr("UnpicklingError"));
  static PyObject* const unknown_global_error =
      PyErr_NewException("shardplan._torch.UnknownGlobal", unpickling_error.ptr(), nullptr);
  m.attr("UnknownGlobal") = py::handle(unknown_global_error);
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const pickle::UnknownGlobal& error) {
      PyErr_SetString(unknown_global_error, error.what());
    } catch (const pickle::BadPickle& error) {
      PyErr_SetString(unpickling_error.ptr(), error.what());
    }
  });

  py::class_<StorageColumns, std::shared_ptr<StorageColumns>>(
      m, "StorageColumns", "Where what was saved lies, as columns.")
      .def("__len__", &StorageColumns::size)
      .def("find", &StorageColumns::find, py::arg("key"),
           "The row of a MetadataIndex, or -1; None where the key is no plain one.")
      .def("columns", [](const std::shared_ptr<StorageColumns>& columns) { return columns; })
      .def("place", &StorageColumns::location, py::arg("row"), "A row's _StorageInfo, made anew.")
      .def("pairs", &StorageColumns::pairs, py::arg("made"),
           "Each row's (MetadataIndex, _StorageInfo); made: row -> _StorageInfo that exists.")
      .def("says", &StorageColumns::says, py::arg("row"), py::arg("place"),
           "Whether a _StorageInfo says what its row says.");

  py::class_<ReceivedStorage>(m, "ReceivedStorage",
                              "A storage_data, or a rank's write results, as it arrived.")
      .def(py::init<py::bytes>(), py::arg("bytes"))
      .def("__len__", &ReceivedStorage::size)
      .def("columns", &ReceivedStorage::columns, "ValueError where the bytes are broken.")
      .def(
          "items", [](ReceivedStorage& arrived) { return arrived.columns()->results(); },
          "The rows as upstream WriteResults. ValueError where the bytes are broken.");

  py::class_<ReceivedMetadata>(m, "ReceivedMetadata", "A state_dict_metadata as it arrived.")
      .def(py::init<py::bytes, py::object>(), py::arg("bytes"), py::arg("objects"))
      .def(
          "entries", &ReceivedMetadata::entries, py::arg("fill"),
          "The dict in upstream classes, whose chunk lists are fill(columns). ValueError where the "
          "bytes are broken.");

  py::class_<SavedMetadata, std::shared_ptr<SavedMetadata>>(m, "SavedMetadata",
                                                            "A state_dict_metadata as columns.")
      .def_property_readonly("objects", [](const SavedMetadata& saved) { return saved.objects; });

  m.def("write_metadata", &write_metadata, py::arg("write"), py::arg("state"),
        py::arg("make_pickler"), py::arg("property_parts"),
        "Writes the pickle of a Metadata with these attributes; columns stand for the dicts that "
        "were read into them.");
  m.def("saved_metadata", &read_saved_metadata, py::arg("state_dict_metadata"),
        "The columns of a state_dict_metadata, or None where it is upstream's to pickle.");
  m.def(
      "storage_columns",
      [](const py::dict& storage_data) -> std::shared_ptr<StorageColumns> {
        auto rows = read_storage_data(storage_data);
        return rows ? std::make_shared<StorageColumns>(std::move(*rows)) : nullptr;
      },
      py::arg("storage_data"),
      "The columns of a storage_data, or None where it is upstream's to pickle.");
  m.def("merge_results", &merge, py::arg("results"), py::arg("sources"),
        "The storage_data of all ranks' write results, or None where it is upstream's to make; "
        "sources: what each list is to be filled from. ValueError, with the rank, where one is "
        "broken.");
  m.def("load_metadata", &load_metadata, py::arg("readinto"), py::arg("fill"), py::arg("places"),
        "What a metadata file holds, in upstream classes. UnpicklingError where it is broken, "
        "UnknownGlobal where it names what is none of a checkpoint's.");
  m.def(
      "pack_saved_metadata",
      [](const py::dict& entries) -> std::optional<py::tuple> {
        auto packed = pack_saved_metadata(entries);
        if (!packed) return std::nullopt;
        return py::make_tuple(packed->bytes, packed->objects);
      },
      py::arg("state_dict_metadata"),
      "Its bytes and the values that travel as objects; None where it travels as an upstream one.");
  m.def(
      "pack_storage", [](const StorageColumns& storage) { return pack_storage(storage.rows()); },
      py::arg("storage"), "Its bytes; None where it travels as an upstream one.");
  m.def(
      "pack_results",
      [](const py::object& results, const py::object& source) -> std::optional<py::bytes> {
        if (py::isinstance<ReceivedStorage>(source)) return source.cast<ReceivedStorage&>().bytes();
        const auto rows = read_results(results);
        return rows ? pack_storage(*rows) : std::nullopt;
      },
      py::arg("results"), py::arg("source"),
      "The bytes of a rank's write results; None where they travel as upstream ones.");
}

}  // namespace shardplan::bindings
