"""The checkpoints of a round on disk: compared with each other, and damaged."""

from __future__ import annotations

import pickle
import random
import shutil
from pathlib import Path

from callers.comparison import file_differences
from distributed.checkpoints import assert_same_checkpoint

from .rounds import Round


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(round_: Round, base: Path) -> None:
    """Compares the checkpoint of each way with upstream's, which is in ``base / "0"``.

    The order of the write results depends on which thread is first, if there are several.
    """
    is_ordered = round_.writer["thread_count"] == 1
    for at, way in enumerate(round_.save_ways[1:], 1):
        folder, upstream = base / str(at), base / "0"
        try:
            # A URL is stored as another type than a path.
            if is_ordered and not round_.safetensors and way.storage != "url":
                assert_same_checkpoint(folder, upstream)
            differing = file_differences(folder, upstream, is_ordered)
            assert not differing, f"these files differ: {', '.join(differing)}"
        except AssertionError as error:
            raise AssertionError(f"saved by {way}: {error}") from error


def damage(round_: Round, base: Path) -> bool:
    """Copies upstream's checkpoint to ``base / "damaged"`` and damages it.

    Returns whether it did: nothing can be cut from a checkpoint without tensors' files.
    """
    folder = base / "damaged"
    shutil.copytree(base / "0", folder)
    suffixes = (".distcp", ".safetensors")
    files = sorted(
        path for path in folder.iterdir() if path.suffix in suffixes and path.stat().st_size
    )
    if round_.damage in ("truncated", "no file"):
        if not files:
            return False
        draw = random.Random(f"damage {round_.seed}")
        file = draw.choice(files)
        if round_.damage == "no file":
            file.unlink()
        else:
            content = file.read_bytes()
            file.write_bytes(content[: draw.randrange(len(content))])
    return True


def describe(base: Path) -> str:
    """Describes the entries of upstream's checkpoint, for the report of a difference."""
    file = base / "0" / ".metadata"
    if not file.exists():
        return "no upstream metadata"
    metadata = pickle.loads(file.read_bytes())
    return "\n".join(f"  {name}: {value}" for name, value in metadata.state_dict_metadata.items())
