#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/columns/plan.h"

namespace shardplan::bindings {

// These functions create DCP objects. Each object equals that of upstream's constructor, including
// the order of attributes, so that their pickles are equal.

py::object make_size(const std::int64_t* numbers, std::size_t ndim);
py::object make_chunk(const std::int64_t* offsets, const std::int64_t* sizes, std::size_t ndim);
py::object make_chunk(const py::object& offsets, const py::object& sizes);

/// Values of one TensorProperties, in the order of the class's fields.
using PropertyValues = std::vector<py::object>;

py::object make_properties(const PropertyValues& values);
py::object make_tensor_data(const py::object& chunk, const py::object& properties,
                            const py::object& size);

/// Creates a TensorStorageMetadata.
py::object make_tensor_metadata(const py::object& properties, const py::object& size,
                                const py::object& chunks);

/// Creates a MetadataIndex. If `chunk_index` is kNoChunkIndex, its `index` is None.
py::object make_index(PyObject* fqn, const std::int64_t* offset, std::size_t ndim,
                      std::int64_t chunk_index);

/// Creates a MetadataIndex without an offset.
py::object make_index(PyObject* fqn, std::int64_t chunk_index);

/// Creates a _StorageInfo without `transform_descriptors`, which upstream's pickles omit.
py::object make_storage_info(const py::object& path, std::int64_t offset, std::int64_t length);

py::object make_write_result(const py::object& index, std::int64_t size_in_bytes,
                             const py::object& storage_data);

/// Creates a WriteItem without `bytes_io_data`. `tensor_data` is None for byte entries.
py::object make_write_item(columns::WriteKind kind, const py::object& index,
                           const py::object& tensor_data);

/// The objects that the rows of a load plan point into.
struct ReadTables {
  std::vector<py::object> names;
  std::vector<py::object> objects;
};

/// Creates the ReadItem of a row.
py::object make_read_item_at(const columns::ReadColumns& rows, const ReadTables& tables,
                             std::size_t row);

/// Creates the ReadItems of all rows.
py::list make_read_items(const columns::ReadColumns& rows, const ReadTables& tables);

}  // namespace shardplan::bindings
