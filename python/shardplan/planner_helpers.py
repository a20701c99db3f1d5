"""Native versions of the names in ``torch.distributed.checkpoint.planner_helpers``."""

from __future__ import annotations

from .dcp.twins.planner_helpers import (
    _compare_save_plans,
    _create_chunk_from_dtensor,
    _create_chunk_from_tensor,
    _create_chunk_list,
    _create_read_items,
    _create_write_item_for_tensor,
    _create_write_items,
    _create_write_items_for_dtensor,
    create_read_items_for_chunk_list,
)
from .dcp.upstream.originals import chunk_for_shard as _chunk_for_shard
from .dcp.upstream.originals import contains_usable_plan as _contains_usable_plan
from .dcp.upstream.originals import (
    create_default_metadata_only_plan as _create_default_metadata_only_plan,
)
from .dcp.upstream.originals import create_read_item_for_byteio as _create_read_item_for_byteio
from .dcp.upstream.originals import create_read_item_for_tensor as _create_read_item_for_tensor
from .dcp.upstream.originals import create_write_item_for_bytesio as _create_write_item_for_bytesio
from .dcp.upstream.originals import create_write_item_for_shard as _create_write_item_for_shard
from .dcp.upstream.originals import init_state_dict as _init_state_dict
from .dcp.upstream.originals import iterate_state_dict as _iterate_state_dict
from .dcp.upstream.originals import merge_delta_local_plans as _merge_delta_local_plans
from .dcp.upstream.originals import sharded_tensor_metadata as _sharded_tensor_metadata
from .dcp.upstream.versions import (
    get_checkpointable_tensor_write_items as _get_checkpointable_tensor_write_items,
)

__all__ = [
    "create_read_items_for_chunk_list",
]
