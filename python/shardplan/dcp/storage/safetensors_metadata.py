"""Reads the metadata of a directory of safetensors files, from the headers of the files."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
from typing import Any

import torch
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SUFFIX
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from .. import fallbacks
from ..native import native
from ..twins.table import twin_of
from ..upstream import originals, replaced_names


@twin_of(originals.hf_reader_read_metadata)
@functools.wraps(originals.hf_reader_read_metadata)
def read_metadata(reader: originals.HuggingFaceStorageReader) -> Metadata:
    """Twin of ``HuggingFaceStorageReader.read_metadata``.

    The safetensors library opens each file and names its tensors, so that its errors are upstream's
    and the order of entries is. Native code then reads the header once more.

    Args:
        reader: the storage reader.

    Raises:
        safetensors.SafetensorError: a file is broken.
        OSError: the file system fails.
    """
    found: Metadata | None = None
    if replaced_names.HF_READ_METADATA.untouched("metadata of safetensors files"):
        found = _read(reader)
    return originals.hf_reader_read_metadata(reader) if found is None else found


def _dtypes() -> dict[str, torch.dtype]:
    """Returns the dtypes that the installed safetensors library knows, by their names in torch."""
    getdtype: Any = importlib.import_module("safetensors.torch")._getdtype
    dtypes = {}
    for name, in_header in native.safetensors_dtypes().items():
        with contextlib.suppress(Exception):
            dtypes[name] = getdtype(in_header)
    return dtypes


def _read(reader: originals.HuggingFaceStorageReader) -> Metadata | None:
    """Returns the metadata, or None if a file has to be read by upstream."""
    safe_open: Any = importlib.import_module("safetensors").safe_open
    files = [file for file in reader.fs.ls(reader.path) if file.endswith(SUFFIX)]
    read = native.SafetensorsMetadata(_dtypes())
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            extra = opened.metadata()
        text = extra.get(CUSTOM_METADATA_KEY) if extra else None
        sharding = json.loads(text) if text else None
        if type(file) is not str or not read.add(file, names, sharding):
            fallbacks.count_operation("metadata of safetensors files: a header cannot be read")
            return None
    metadata = Metadata(read.entries, storage_data=read.locations)
    metadata.storage_meta = StorageMeta()
    metadata.storage_meta.load_id = reader.load_id
    return metadata
