"""Twins of ``torch.distributed.checkpoint.hf_storage``: safetensors files of Hugging Face."""

from __future__ import annotations

import os

from torch.distributed.checkpoint import hf_storage
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.futures import Future

from ..upstream import replaced_names
from .file_access import default_thread_count
from .filesystem import ColumnsWriter
from .progress import Progress
from .safetensors_metadata import read_metadata
from .tensor_data import read_safetensors

__all__ = ["HuggingFaceStorageReader", "HuggingFaceStorageWriter"]


class HuggingFaceStorageWriter(hf_storage.HuggingFaceStorageWriter, ColumnsWriter):
    """``torch.distributed.checkpoint.HuggingFaceStorageWriter``, which writes tensors natively.

    Its arguments are those of upstream.
    """


class HuggingFaceStorageReader(hf_storage.HuggingFaceStorageReader):
    """``torch.distributed.checkpoint.HuggingFaceStorageReader``, which reads tensors natively.

    Args:
        path: the directory of the safetensors files.
        thread_count: see ``FileSystemReader``.
        progress: see ``FileSystemReader``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        thread_count: int | None = None,
        *,
        progress: bool | Progress = False,
    ) -> None:
        if thread_count is not None and thread_count < 1:
            raise ValueError(f"thread_count must be at least 1, not {thread_count}")
        super().__init__(path, thread_count or default_thread_count())  # type: ignore[arg-type]
        self.progress = progress

    def read_metadata(self) -> Metadata:
        if replaced_names.HF_READER.untouched("metadata of safetensors files"):
            return read_metadata(self)
        return super().read_metadata()

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        if replaced_names.HF_READER.untouched("read_data"):
            return read_safetensors(self, plan, planner)
        return super().read_data(plan, planner)
