#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "bindings/common/python_object.h"
#include "bindings/torch/upstream/versions.h"

namespace shardplan::bindings {

/// One of upstream's dataclasses. If its fields are those that native code knows, objects are
/// created attribute by attribute, in the order of its __init__; otherwise by calling the class.
struct UpstreamClass {
  PyTypeObject* type = nullptr;
  bool known = false;
};

/// The classes and names of the installed torch that native code reads and creates. Never freed.
struct UpstreamTypes {
  UpstreamTypes();
  static const UpstreamTypes& get();

  UpstreamClass write_item, read_item, metadata_index, tensor_write_data, chunk, tensor_properties,
      tensor_storage, storage_info, write_result, hf_storage_info;
  PyTypeObject* tensor_metadata;
  PyTypeObject* bytes_metadata;
  PyTypeObject* save_plan;
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
  PyObject* mapping;       // collections.abc.Mapping
  PyObject* torch_names;   // the dict of the module torch
  PyObject* element_size;  // torch._utils._element_size
  PyObject* replace;       // dataclasses.replace
  PyObject* pickle_dumps;  // pickle.dumps
  PyObject* pickle_loads;  // pickle.loads

  /// The names and meanings of the fields of TensorProperties, in order.
  std::vector<PyObject*> property_names;
  std::vector<PropertyField> property_fields;
  bool has_property(PropertyField field) const;

  /// DTensor's protocol methods. If a caller has replaced one, upstream plans DTensors.
  PyObject* dtensor_create_write_items;
  PyObject* dtensor_create_chunk_list;
  bool dtensor_untouched() const;

  /// Whether the installed torch reads the fields of a CheckpointableTensor (torch 2.14).
  bool has_checkpointable_tensors;

  // Interned attribute names.
  PyObject *fqn, *offset, *index, *type, *bytes_io_data, *tensor_data, *chunk_name, *properties,
      *size, *offsets, *sizes, *chunks, *dest_index, *dest_offsets, *storage_index,
      *storage_offsets, *lengths, *items, *spec, *local_tensor, *mesh, *placements, *shape,
      *get_coordinate, *dim, *split_factor, *create_write_items, *create_chunk_list, *global_shape,
      *global_offsets, *local_offsets, *local_sizes, *metadata, *local_shards, *shards_metadata,
      *shard_offsets, *shard_sizes, *tensor_properties_name, *create_from_tensor, *to_local,
      *columns, *tensor_storage_size, *storage_data, *size_in_bytes, *relative_path, *length,
      *transform_descriptors;
};

}  // namespace shardplan::bindings
