"""shardplan's readers and writers on every rank of a world, or on some of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

import shardplan
from shardplan.dcp.lazy.path_mappings import LazyDict
from shardplan.dcp.lazy.storage_data import StorageData
from shardplan.dcp.upstream import versions

from .checkpoints import Held, assert_same_checkpoint, identical, without_ids
from .planning import planning
from .state_dicts import BUILDERS, blank, held
from .world import Worlds, end_background_process

LAYOUTS = ("fsdp", "replicated", "sharded_tensors", "nested")
# The implementation of the planner, and that of the writer and reader.
WAYS = {
    "ours": ("ours", "ours"),
    "upstream planner": ("upstream", "ours"),
    "upstream writer": ("ours", "upstream"),
    "registered": ("registered", "none"),
    "writers mixed": ("ours", "ours on odd ranks"),
    "all mixed": ("ours on even ranks", "ours on even ranks"),
    "url": ("ours", "url"),
}


def storage(whose: str, folder: Path, upstream: Any, ours: Any, **options: Any) -> Any:
    if whose.startswith("ours on"):
        whose = "ours" if dist.get_rank() % 2 == ("odd" in whose) else "upstream"
    return (ours if whose == "ours" else upstream)(folder, **options)


def writing_to(whose: str, folder: Path) -> dict[str, Any]:
    if whose == "none":
        return {"checkpoint_id": folder}
    if whose == "url":
        return {"storage_writer": shardplan.FsspecWriter(f"file://{folder}", sync_files=False)}
    kinds = (dcp.FileSystemWriter, shardplan.FileSystemWriter)
    return {"storage_writer": storage(whose, folder, *kinds, sync_files=False)}


def reading_from(whose: str, folder: Path) -> dict[str, Any]:
    if whose == "none":
        return {"checkpoint_id": folder}
    if whose == "url":
        return {"storage_reader": shardplan.FsspecReader(f"file://{folder}")}
    kinds = (dcp.FileSystemReader, shardplan.FileSystemReader)
    return {"storage_reader": storage(whose, folder, *kinds)}


def is_materialized(metadata: Metadata) -> bool:
    """Returns whether the storage locations are materialized. It may have none with torch 2.11."""
    data = metadata.storage_data
    if data is None and not versions.finish_changes_its_argument():
        return False
    return not (type(data) is StorageData and data.columns() is not None)


# The type of returned storage locations, which have been pickled on the way to the test.
RETURNED = dict if versions.finish_changes_its_argument() else type(None)


def save_and_load(layout: str, base: Path) -> Any:
    """Returns the result of each save, whether it was materialized, and this rank's data."""
    state = BUILDERS[layout]()
    returned = {"upstream": dcp.save(state, checkpoint_id=base / "upstream")}
    dcp.save(state, storage_writer=FsspecWriter(f"file://{base}/upstream url", sync_files=False))
    loaded: dict[str, list[Held]] = {}
    made: dict[str, bool] = {}
    for way, (who, whose) in WAYS.items():
        with planning(who) as planners:
            metadata = dcp.save(state, planner=planners.save(), **writing_to(whose, base / way))
            made[way] = is_materialized(metadata)
            entries = metadata.state_dict_metadata
            if dist.get_rank() != 0 and whose != "upstream" and "mixed" not in way:
                assert type(entries) is LazyDict
                assert entries.source is not None
            returned[way] = metadata
            loaded[way] = []
            for folder in (base / way, base / "upstream"):
                found = blank(BUILDERS[layout])
                dcp.load(found, planner=planners.load(), **reading_from(whose, folder))
                loaded[way].append(held(found))
    return returned, made, held(state), loaded


@pytest.mark.parametrize("layout", LAYOUTS)
def test_saves_and_loads(worlds: Worlds, tmp_path: Path, layout: str) -> None:
    ranks = worlds[4].run(save_and_load, layout, tmp_path)
    for way in WAYS:
        upstream = "upstream url" if way == "url" else "upstream"
        assert_same_checkpoint(tmp_path / way, tmp_path / upstream)
    for returned, made, before, loaded in ranks:
        expected = without_ids(returned.pop("upstream"))
        for way, metadata in returned.items():
            assert without_ids(metadata) == expected, way
            assert type(metadata.storage_data) is RETURNED
            assert list(metadata.state_dict_metadata) == list(expected.state_dict_metadata)
            for found in loaded[way]:
                assert identical(found, before)
        assert not made["ours"]
        assert not made["registered"]


# Whose planner and whose writer. DCP's own writer has another stager, which pins memory if the
# machine has an accelerator.
IN_THE_BACKGROUND = {
    "upstream": ("upstream", "upstream"),
    "ours": ("ours", "ours"),
    "upstream default": ("upstream", "none"),
    "registered": ("registered", "none"),
}


def save_in_the_background(kind: AsyncCheckpointerType, base: Path) -> dict[str, Metadata]:
    state = BUILDERS["fsdp"]()
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for way, (who, whose) in IN_THE_BACKGROUND.items():
            with planning(who) as planners:
                done = dcp.async_save(
                    state,
                    planner=planners.save(),
                    async_checkpointer_type=kind,
                    **writing_to(whose, base / way),
                )
                # Some stagers return more than one future.
                found[way] = getattr(done, "upload_completion", done).result(timeout=60)
    end_background_process()
    return found


@pytest.mark.parametrize("kind", list(AsyncCheckpointerType), ids=lambda kind: kind.value)
def test_saves_in_the_background(
    worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: AsyncCheckpointerType
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    ranks = worlds[4].run(save_in_the_background, kind, tmp_path, timeout=180)
    for way, upstream in (("ours", "upstream"), ("registered", "upstream default")):
        for returned in ranks:
            assert without_ids(returned[way]) == without_ids(returned[upstream])
            assert type(returned[way].storage_data) is RETURNED
        assert_same_checkpoint(tmp_path / way, tmp_path / upstream)


def save_and_load_alone(base: Path) -> tuple[Held, list[Held]]:
    """Without collectives: one metadata file for each rank."""
    state = BUILDERS["fsdp"]()
    loaded = []
    for way in ("upstream", "ours"):
        with planning(way) as planners:
            dcp.save(
                state,
                planner=planners.save(),
                use_collectives=False,
                **writing_to(way, base / way),
            )
            found = blank(BUILDERS["fsdp"])
            dcp.load(found, planner=planners.load(), **reading_from(way, base / way))
            loaded.append(held(found))
    return held(state), loaded


def test_without_collectives(worlds: Worlds, tmp_path: Path) -> None:
    for before, loaded in worlds[4].run(save_and_load_alone, tmp_path):
        for found in loaded:
            assert identical(found, before)
    assert_same_checkpoint(tmp_path / "ours", tmp_path / "upstream")
    assert (tmp_path / "ours" / "__3.metadata").exists()
