"""What ``sync_files`` does: complete files are synced, and other streams as upstream does."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

import shardplan

STATE_DICT = {"a": torch.arange(1000.0), "names": ["a", "b"]}


def test_files_are_complete_when_they_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    writer = shardplan.FileSystemWriter(tmp_path)
    dcp.save(STATE_DICT, storage_writer=writer, no_dist=True)
    assert synced == [(tmp_path / name).stat().st_size for name in ("__0_0.distcp", ".metadata")]


def test_a_stream_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def saved(path: str) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            syncs: list[str] = []
            monkeypatch.setattr(os, "sync", lambda: syncs.append("sync"))
            dcp.save(STATE_DICT, storage_writer=FsspecWriter(f"memory://{path}"), no_dist=True)
        return syncs, [str(one.message) for one in caught if "fsync" in str(one.message)]

    upstream = saved("upstream")
    with shardplan.registered():
        assert saved("ours") == upstream
    assert sum(map(len, upstream)) == 2
