"""Twin of ``filesystem._write_item``, for callers that write the files of a checkpoint themselves.

Megatron's writer and upstream's own, where native code does not write a whole file, call it for
each item.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.planner import WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from .. import fallbacks
from ..native import native
from ..twins.table import twin_of
from ..upstream import originals, replaced_names
from .file_access import descriptor_of
from .file_writing import fail, why_upstream_transforms
from .tensor_writing import installed_parts

# Smaller tensors are written through the buffer of the stream.
_DIRECT = 64 << 10


@twin_of(originals.write_item)
@functools.wraps(originals.write_item)
def _write_item(
    transforms: filesystem._StorageWriterTransforms,
    stream: Any,
    data: Any,
    write_item: WriteItem,
    storage_key: str,
    serialization_format: filesystem.SerializationFormat,
) -> WriteResult:
    """Writes an item where a stream is, and returns its location.

    Args:
        transforms: the transforms of the storage writer.
        stream: the stream of the file.
        data: a tensor on the CPU, or an ``io.BytesIO``.
        write_item: the item.
        storage_key: the name of the file.
        serialization_format: the format of the tensors.
    """
    if (
        isinstance(data, torch.Tensor)
        and serialization_format == filesystem.SerializationFormat.TORCH_SAVE
        and write_item.type != WriteItemType.BYTE_IO
        and replaced_names.WRITE_DATA.untouched("write item", fallbacks.count_entries)
    ):
        result = None
        if why_upstream_transforms(transforms) is None and _is_alone(data):
            result = _write_tensor(stream, data, write_item, storage_key)
        if result is not None:
            return result
        fallbacks.count_entries("write item: the tensor or the writer is not a plain one")
    return fallbacks.upstream(
        originals.write_item,
        transforms,
        stream,
        data,
        write_item,
        storage_key,
        serialization_format,
    )


def _is_alone(tensor: torch.Tensor) -> bool:
    """Returns whether ``torch.save`` stores nothing but the elements of a tensor on the CPU.

    Of a view it stores the whole memory, of a subclass the class, and of any object its attributes.
    """
    return (
        type(tensor) is torch.Tensor
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and not tensor.requires_grad
        and not vars(tensor)
        and tensor.untyped_storage().nbytes() == tensor.nbytes
    )


def _write_tensor(
    stream: Any, tensor: torch.Tensor, item: WriteItem, name: str
) -> WriteResult | None:
    """Writes a tensor natively; returns None if native code cannot, and has written nothing."""
    parts = installed_parts()
    if parts is None:
        return None
    try:
        writer = native.TensorWriter([item], threads=1, memory=_DIRECT, progress=None)
    except ValueError:
        return None
    offset = stream.tell()
    descriptor = descriptor_of(stream) if tensor.nbytes >= _DIRECT else None
    if descriptor is not None:
        stream.flush()
    file = stream.write if descriptor is None else descriptor
    count, end, failed = writer.write(file, offset, name, [0], 0, parts, [tensor], None, None)
    if failed is not None:
        fail(name, item, failed[1])
    if count == 0:
        return None
    if descriptor is not None:
        stream.seek(end)
    stream.flush()  # as upstream does
    location = filesystem._StorageInfo(name, offset, end - offset)
    return WriteResult(index=item.index, size_in_bytes=end - offset, storage_data=location)
