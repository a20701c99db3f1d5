"""The functions and classes of the installed torch, as they were when shardplan was imported.

Twins call them for inputs that native code does not support, so that results and errors are
upstream's.
"""

from __future__ import annotations

from torch.distributed.checkpoint import (
    _async_process_executor,
    _dedup_save_plans,
    _dedup_tensors,
    default_planner,
    filesystem,
    planner_helpers,
    resharding,
)

AsyncCheckpointProcess = _async_process_executor._AsyncCheckpointProcess
async_process_save = AsyncCheckpointProcess.save
dedup_save_plans = _dedup_save_plans.dedup_save_plans
dedup_tensors = _dedup_tensors.dedup_tensors

FileSystemReader = filesystem.FileSystemReader
FileSystemWriter = filesystem._FileSystemWriter
reader_read_metadata = FileSystemReader.read_metadata
writer_finish = FileSystemWriter.finish
writer_prepare_global_plan = FileSystemWriter.prepare_global_plan
writer_storage_meta = FileSystemWriter.storage_meta
writer_write_data = FileSystemWriter.write_data

DefaultLoadPlanner = default_planner.DefaultLoadPlanner
DefaultSavePlanner = default_planner.DefaultSavePlanner
EmptyStateDictLoadPlanner = default_planner._EmptyStateDictLoadPlanner
planner_set_up_planner = DefaultSavePlanner.set_up_planner
planner_create_global_plan = DefaultSavePlanner._create_global_plan
planner_finish_plan = DefaultSavePlanner.finish_plan
planner_create_local_load_plan = DefaultLoadPlanner.create_local_plan
check_box_bounds = default_planner._check_box_bounds
check_box_overlap = default_planner._check_box_overlap
create_default_global_load_plan = default_planner.create_default_global_load_plan
create_default_global_save_plan = default_planner.create_default_global_save_plan
create_default_local_load_plan = default_planner.create_default_local_load_plan
create_default_local_metadata = default_planner._create_default_local_metadata
create_default_local_save_plan = default_planner.create_default_local_save_plan
validate_global_plan = default_planner._validate_global_plan

chunk_for_shard = planner_helpers._chunk_for_shard
compare_save_plans = planner_helpers._compare_save_plans
contains_usable_plan = planner_helpers._contains_usable_plan
create_chunk_from_dtensor = planner_helpers._create_chunk_from_dtensor
create_chunk_from_tensor = planner_helpers._create_chunk_from_tensor
create_chunk_list = planner_helpers._create_chunk_list
create_default_metadata_only_plan = planner_helpers._create_default_metadata_only_plan
create_read_item_for_byteio = planner_helpers._create_read_item_for_byteio
create_read_item_for_tensor = planner_helpers._create_read_item_for_tensor
create_read_items = planner_helpers._create_read_items
create_read_items_for_chunk_list = planner_helpers.create_read_items_for_chunk_list
create_write_item_for_bytesio = planner_helpers._create_write_item_for_bytesio
create_write_item_for_shard = planner_helpers._create_write_item_for_shard
create_write_item_for_tensor = planner_helpers._create_write_item_for_tensor
create_write_items = planner_helpers._create_write_items
create_write_items_for_dtensor = planner_helpers._create_write_items_for_dtensor
# In torch 2.15 and later.
get_checkpointable_tensor_write_items = getattr(
    planner_helpers, "_get_checkpointable_tensor_write_items", None
)
init_state_dict = planner_helpers._init_state_dict
iterate_state_dict = planner_helpers._iterate_state_dict
merge_delta_local_plans = planner_helpers._merge_delta_local_plans
sharded_tensor_metadata = planner_helpers._sharded_tensor_metadata

check_shard_metadata_pair_overlap = resharding._check_shard_metadata_pair_overlap
shards_get_overlap_region_wrt_saved_tensor = resharding._shards_get_overlap_region_wrt_saved_tensor
