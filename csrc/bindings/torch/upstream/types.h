#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

/// An upstream dataclass. Where its fields are those known here its objects are made attribute by
/// attribute, in the order its own __init__ sets them; else by calling it.
struct UpstreamClass {
  PyTypeObject* type = nullptr;
  bool known = false;
};

/// How a field of the installed torch's TensorProperties is read from a tensor. The value of an
/// unknown field is a Python object, which only `TensorProperties.create_from_tensor` can give.
enum class PropertyField {
  kDtype,
  kLayout,
  kRequiresGrad,
  kMemoryFormat,
  kPinMemory,
  kStrides,
  kUnknown
};

/// The classes and names of the installed torch that planning reads and makes. Never freed.
struct UpstreamTypes {
  UpstreamTypes();
  static const UpstreamTypes& get();

  UpstreamClass write_item, read_item, metadata_index, tensor_write_data, chunk, tensor_properties,
      tensor_storage, storage_info, write_result;
  PyTypeObject* tensor_metadata;
  PyTypeObject* bytes_metadata;
  PyTypeObject* dtensor;
  PyTypeObject* sharded_tensor;
  PyTypeObject* tensor;
  PyTypeObject* parameter;
  PyTypeObject* shard;
  PyTypeObject* replicate;
  PyTypeObject* strided_shard;
  PyTypeObject* torch_size;
  PyTypeObject* dtype;
  PyTypeObject* layout;
  PyTypeObject* memory_format;

  PyObject* write_tensor;
  PyObject* write_shard;
  PyObject* write_bytes;
  PyObject* read_tensor;
  PyObject* read_bytes;
  PyObject* contiguous_format;
  PyObject* torch_names;   // the dict of the module torch
  PyObject* element_size;  // torch._utils._element_size
  PyObject* replace;       // dataclasses.replace
  PyObject* pickle_dumps;  // pickle.dumps
  PyObject* pickle_loads;  // pickle.loads

  /// The fields of TensorProperties in order, by name and by meaning.
  std::vector<PyObject*> property_names;
  std::vector<PropertyField> property_fields;
  bool has_property(PropertyField field) const;

  /// DTensor's own protocol methods: where one was replaced, upstream's road is taken.
  PyObject* dtensor_create_write_items;
  PyObject* dtensor_create_chunk_list;
  bool dtensor_untouched() const;

  // Interned attribute names.
  PyObject *fqn, *offset, *index, *type, *bytes_io_data, *tensor_data, *chunk_name, *properties,
      *size, *offsets, *sizes, *chunks, *dest_index, *dest_offsets, *storage_index,
      *storage_offsets, *lengths, *items, *spec, *local_tensor, *mesh, *placements, *shape,
      *get_coordinate, *dim, *split_factor, *create_write_items, *create_chunk_list, *global_shape,
      *metadata, *local_shards, *shards_metadata, *shard_offsets, *shard_sizes,
      *tensor_properties_name, *create_from_tensor, *to_local, *columns, *tensor_storage_size,
      *storage_data, *size_in_bytes, *relative_path, *length, *transform_descriptors;
};

}  // namespace shardplan::bindings
