#include "bindings/torch/upstream/types.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace shardplan::bindings {
namespace {

PyObject* intern(const char* name) {
  PyObject* interned = PyUnicode_InternFromString(name);
  if (interned == nullptr) throw py::error_already_set();
  return interned;
}

PyObject* keep(const py::object& object) {
  return py::object(object).release().ptr();
}

PyTypeObject* keep_type(const py::object& object) {
  if (!PyType_Check(object.ptr())) throw py::type_error("expected a class of torch");
  return reinterpret_cast<PyTypeObject*>(keep(object));
}

std::vector<std::string> field_names(const py::object& cls) {
  std::vector<std::string> names;
  for (const auto field : py::module_::import("dataclasses").attr("fields")(cls)) {
    names.push_back(py::cast<std::string>(field.attr("name")));
  }
  return names;
}

template <std::size_t kCount>
UpstreamClass upstream_class(const py::object& cls,
                             const std::array<std::string_view, kCount>& known_fields) {
  return {keep_type(cls), std::ranges::equal(field_names(cls), known_fields)};
}

}  // namespace

UpstreamTypes::UpstreamTypes() {
  const py::object metadata_module = py::module_::import("torch.distributed.checkpoint.metadata");
  const py::object planner = py::module_::import("torch.distributed.checkpoint.planner");
  const py::object placement_types =
      py::module_::import("torch.distributed.tensor.placement_types");
  const py::object torch = py::module_::import("torch");

  write_item = upstream_class(planner.attr("WriteItem"), kWriteItemFields);
  read_item = upstream_class(planner.attr("ReadItem"), kReadItemFields);
  tensor_write_data = upstream_class(planner.attr("TensorWriteData"), kTensorWriteDataFields);
  metadata_index = upstream_class(metadata_module.attr("MetadataIndex"), kMetadataIndexFields);
  chunk = upstream_class(metadata_module.attr("ChunkStorageMetadata"), kChunkFields);
  tensor_properties = {keep_type(metadata_module.attr("TensorProperties")), true};
  tensor_storage =
      upstream_class(metadata_module.attr("TensorStorageMetadata"), kTensorMetadataFields);
  storage_info = upstream_class(
      py::module_::import("torch.distributed.checkpoint.filesystem").attr("_StorageInfo"),
      kStorageInfoFields);
  hf_storage_info = upstream_class(
      py::module_::import("torch.distributed.checkpoint._hf_utils").attr("_HFStorageInfo"),
      kHfStorageInfoFields);
  write_result = upstream_class(
      py::module_::import("torch.distributed.checkpoint.storage").attr("WriteResult"),
      kWriteResultFields);
  tensor_metadata = tensor_storage.type;
  bytes_metadata = keep_type(metadata_module.attr("BytesStorageMetadata"));
  save_plan = keep_type(planner.attr("SavePlan"));
  dtensor = keep_type(py::module_::import("torch.distributed.tensor").attr("DTensor"));
  sharded_tensor = keep_type(
      py::module_::import("torch.distributed._shard.sharded_tensor").attr("ShardedTensor"));
  tensor = keep_type(torch.attr("Tensor"));
  torch_size = keep_type(torch.attr("Size"));
  dtype = keep_type(torch.attr("dtype"));
  layout = keep_type(torch.attr("layout"));
  memory_format = keep_type(torch.attr("memory_format"));
  parameter = keep_type(torch.attr("nn").attr("Parameter"));
  shard = keep_type(placement_types.attr("Shard"));
  replicate = keep_type(placement_types.attr("Replicate"));
  strided_shard = keep_type(placement_types.attr("_StridedShard"));

  write_tensor = keep(planner.attr("WriteItemType").attr("TENSOR"));
  write_shard = keep(planner.attr("WriteItemType").attr("SHARD"));
  write_bytes = keep(planner.attr("WriteItemType").attr("BYTE_IO"));
  read_tensor = keep(planner.attr("LoadItemType").attr("TENSOR"));
  read_bytes = keep(planner.attr("LoadItemType").attr("BYTE_IO"));
  contiguous_format = keep(torch.attr("contiguous_format"));
  mapping = keep(py::module_::import("collections.abc").attr("Mapping"));
  torch_names = keep(torch.attr("__dict__"));
  element_size = keep(py::module_::import("torch._utils").attr("_element_size"));
  replace = keep(py::module_::import("dataclasses").attr("replace"));
  pickle_dumps = keep(py::module_::import("pickle").attr("dumps"));
  pickle_loads = keep(py::module_::import("pickle").attr("loads"));

  for (const std::string& name : field_names(metadata_module.attr("TensorProperties"))) {
    property_names.push_back(intern(name.c_str()));
    property_fields.push_back(property_field(name));
  }

  dtensor_create_write_items =
      keep(py::handle(reinterpret_cast<PyObject*>(dtensor)).attr("__create_write_items__"));
  dtensor_create_chunk_list =
      keep(py::handle(reinterpret_cast<PyObject*>(dtensor)).attr("__create_chunk_list__"));

  has_checkpointable_tensors =
      py::hasattr(py::module_::import("torch.distributed.checkpoint.planner_helpers"),
                  "_is_checkpointable_tensor");

  fqn = intern("fqn");
  offset = intern("offset");
  index = intern("index");
  type = intern("type");
  bytes_io_data = intern("bytes_io_data");
  tensor_data = intern("tensor_data");
  chunk_name = intern("chunk");
  properties = intern("properties");
  size = intern("size");
  offsets = intern("offsets");
  sizes = intern("sizes");
  chunks = intern("chunks");
  dest_index = intern("dest_index");
  dest_offsets = intern("dest_offsets");
  storage_index = intern("storage_index");
  storage_offsets = intern("storage_offsets");
  lengths = intern("lengths");
  items = intern("items");
  spec = intern("_spec");
  local_tensor = intern("_local_tensor");
  mesh = intern("mesh");
  placements = intern("placements");
  shape = intern("shape");
  get_coordinate = intern("get_coordinate");
  dim = intern("dim");
  split_factor = intern("split_factor");
  create_write_items = intern("__create_write_items__");
  create_chunk_list = intern("__create_chunk_list__");
  global_shape = intern("global_shape");
  global_offsets = intern("global_offsets");
  local_offsets = intern("local_offsets");
  local_sizes = intern("local_sizes");
  metadata = intern("metadata");
  local_shards = intern("local_shards");
  shards_metadata = intern("shards_metadata");
  shard_offsets = intern("shard_offsets");
  shard_sizes = intern("shard_sizes");
  tensor_properties_name = intern("tensor_properties");
  create_from_tensor = intern("create_from_tensor");
  to_local = intern("to_local");
  columns = intern("columns");
  tensor_storage_size = intern("tensor_storage_size");
  storage_data = intern("storage_data");
  size_in_bytes = intern("size_in_bytes");
  relative_path = intern("relative_path");
  length = intern("length");
  transform_descriptors = intern("transform_descriptors");
}

const UpstreamTypes& UpstreamTypes::get() {
  // Created under the GIL when the module is imported, and never freed.
  static const UpstreamTypes* const types = new UpstreamTypes();
  return *types;
}

bool UpstreamTypes::has_property(PropertyField field) const {
  return std::ranges::find(property_fields, field) != property_fields.end();
}

bool UpstreamTypes::dtensor_untouched() const {
  PyObject* cls = reinterpret_cast<PyObject*>(dtensor);
  return read_attribute(cls, create_write_items).ptr() == dtensor_create_write_items &&
         read_attribute(cls, create_chunk_list).ptr() == dtensor_create_chunk_list;
}

}  // namespace shardplan::bindings
