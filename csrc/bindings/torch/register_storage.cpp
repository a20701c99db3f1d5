#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "bindings/torch/metadata/kept_plans.h"
#include "bindings/torch/metadata/metadata_file.h"
#include "bindings/torch/metadata/metadata_file_writer.h"
#include "bindings/torch/register.h"
#include "bindings/torch/wire/metadata_wire.h"
#include "core/pickle/machine.h"

namespace shardplan::bindings {
namespace {

/// Returns the rows of a list of write results: those of `source` if it is not None. Returns null
/// on fallback.
std::shared_ptr<const StorageColumns> result_columns(const py::object& results,
                                                     const py::object& source) {
  if (py::isinstance<ReceivedStorage>(source)) return source.cast<ReceivedStorage&>().columns();
  if (py::isinstance<SavedResults>(source)) return source.cast<SavedResults&>().columns;
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
      m, "StorageColumns", "The locations of a storage_data, as columns.")
      .def("__len__", &StorageColumns::size)
      .def("find", &StorageColumns::find, py::arg("key"),
           "Returns the row of a MetadataIndex, -1 if there is none; None for any other key.")
      .def("columns", [](const std::shared_ptr<StorageColumns>& columns) { return columns; })
      .def("location", &StorageColumns::location, py::arg("row"),
           "Creates the ``_StorageInfo`` of a row.")
      .def("pairs", &StorageColumns::pairs, py::arg("made"),
           "Materializes all rows. ``made``: row -> existing ``_StorageInfo``.")
      .def("file_sizes", &StorageColumns::file_sizes,
           "Returns a dict of relative path -> end of the last data in it, in bytes.")
      .def("matches", &StorageColumns::matches, py::arg("row"), py::arg("location"),
           "Returns whether a ``_StorageInfo`` equals its row.");

  py::class_<ReceivedStorage>(m, "ReceivedStorage",
                              "A received storage_data, or the received write results of a rank.")
      .def(py::init<py::bytes>(), py::arg("bytes"))
      .def("__len__", &ReceivedStorage::size)
      .def("columns", &ReceivedStorage::columns,
           "Decodes the bytes. Raises ValueError if they are broken.")
      .def(
          "items", [](ReceivedStorage& received) { return received.columns()->results(); },
          "Decodes and materializes write results. Raises ValueError if the bytes are broken.");

  py::class_<SavedResults>(m, "SavedResults", "The write results of a rank.")
      .def("__len__", [](const SavedResults& results) { return results.columns->size(); })
      .def(
          "items", [](const SavedResults& results) { return results.columns->results(); },
          "Materializes the write results.");

  py::class_<ReceivedMetadata>(m, "ReceivedMetadata", "A received state_dict_metadata.")
      .def(py::init<py::bytes, py::object>(), py::arg("bytes"), py::arg("objects"))
      .def("entries", &ReceivedMetadata::entries, py::arg("fill"),
           "Decodes the dict, with ``fill(columns)`` as chunk lists. Raises ValueError if broken.");

  py::class_<SavedMetadata, std::shared_ptr<SavedMetadata>>(m, "SavedMetadata",
                                                            "A state_dict_metadata, as columns.")
      .def_property_readonly(
          "objects", [](const SavedMetadata& saved) { return saved.objects; },
          "Values that native code cannot encode.");

  py::class_<KeptPlans, std::shared_ptr<KeptPlans>>(
      m, "KeptPlans", "A list of SavePlans in a Metadata, with items as columns.");

  m.def("kept_plans", &read_kept_plans, py::arg("plans"),
        "Returns the columns of a list of SavePlans; None on fallback.");
  m.def(
      "write_metadata", &write_metadata, py::arg("write"), py::arg("state"),
      py::arg("make_pickler"), py::arg("property_parts"),
      "Writes the pickle of a Metadata with the attributes ``state``. A value that is "
      "SavedMetadata, StorageColumns or KeptPlans is written as the dict or list that it was read "
      "from.");
  m.def("saved_metadata", &read_saved_metadata, py::arg("state_dict_metadata"),
        "Returns the columns of a state_dict_metadata; None on fallback.");
  m.def(
      "storage_columns",
      [](const py::dict& storage_data) -> std::shared_ptr<StorageColumns> {
        auto rows = read_storage_data(storage_data);
        return rows ? std::make_shared<StorageColumns>(std::move(*rows)) : nullptr;
      },
      py::arg("storage_data"), "Returns the columns of a storage_data; None on fallback.");
  m.def(
      "hf_storage_columns",
      [](const py::dict& storage_data) -> std::shared_ptr<StorageColumns> {
        auto rows = read_hf_storage_data(storage_data);
        return rows ? std::make_shared<StorageColumns>(std::move(*rows)) : nullptr;
      },
      py::arg("storage_data"),
      "Returns the columns of a storage_data of safetensors files; None on fallback.");
  m.def("merge_results", &merge, py::arg("results"), py::arg("sources"),
        "Merges all ranks' write results; returns None on fallback. Raises ValueError, with the "
        "rank, if one is broken.");
  m.def("load_metadata", &load_metadata, py::arg("readinto"), py::arg("fill"), py::arg("locations"),
        "Loads a metadata file. Raises UnpicklingError or UnknownGlobal.");
  m.def(
      "pack_saved_metadata",
      [](const py::dict& entries) -> std::optional<py::tuple> {
        auto packed = pack_saved_metadata(entries);
        if (!packed) return std::nullopt;
        return py::make_tuple(packed->bytes, packed->objects);
      },
      py::arg("state_dict_metadata"), "Returns (bytes, values sent as objects); None on fallback.");
  m.def(
      "pack_storage", [](const StorageColumns& storage) { return pack_storage(storage.rows()); },
      py::arg("storage"), "Returns the encoded bytes; None on fallback.");
  m.def(
      "pack_results",
      [](const py::object& results, const py::object& source) -> std::optional<py::bytes> {
        if (py::isinstance<ReceivedStorage>(source)) return source.cast<ReceivedStorage&>().bytes();
        const auto columns = result_columns(results, source);
        return columns ? pack_storage(columns->rows()) : std::nullopt;
      },
      py::arg("results"), py::arg("source"),
      "Returns the encoded bytes of a rank's write results; None on fallback.");
}

}  // namespace shardplan::bindings
