"""What one round does, as its seed decides."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from .models import Request

PLANNERS = ("ours", "ours", "registered", "ours on even ranks", "ours on odd ranks")


@dataclasses.dataclass(frozen=True)
class Way:
    """One implementation of a save or a load.

    Args:
        planner: see ``distributed.planning``.
        storage: ``upstream``, ``ours``, ``atomic``, ``url``, or ``upstream url``.
    """

    planner: str
    storage: str

    def __str__(self) -> str:
        return f"planner {self.planner}, storage {self.storage}"


UPSTREAM = Way("upstream", "upstream")


@dataclasses.dataclass(frozen=True)
class Round:
    seed: int
    savers: int
    loaders: int
    save_ways: tuple[Way, ...]
    load_ways: tuple[Way, ...]
    kinds: str
    safetensors: bool
    writer: dict[str, Any]
    planner: dict[str, Any]
    #: How often the checkpoint is saved into the same directory.
    times: int
    #: Whether another checkpoint was saved there before.
    overwrites: bool
    in_background: bool
    request: Request
    reader: dict[str, Any]
    #: How the checkpoint is damaged for one more load, or an empty string.
    damage: str

    @classmethod
    def of(cls, seed: int, sizes: tuple[int, ...]) -> Round:
        draw = random.Random(f"round {seed}")
        safetensors = draw.random() < 0.12
        overwrites = draw.random() < 0.1
        caches = not safetensors and draw.random() < 0.2
        storages = ["ours", "ours", "upstream", "url"]
        if not safetensors and not overwrites:
            storages += ["atomic", "atomic"]
        if safetensors:
            storages = ["ours"]
        ours = [Way("ours", draw.choice(storages)), Way(draw.choice(PLANNERS), "ours")]
        ours.append(Way("registered", "upstream"))
        reading = ["ours", "upstream"] if safetensors else ["ours", "ours", "upstream", "url"]
        loads = [Way("ours", "ours"), Way(draw.choice(PLANNERS), draw.choice(reading))]
        return cls(
            seed=seed,
            savers=draw.choice(sizes),
            loaders=draw.choice(sizes),
            save_ways=(UPSTREAM, *draw.sample(ours, 2)),
            load_ways=(UPSTREAM, *loads),
            kinds="DDP" if safetensors else draw.choice(("DDDSP", "DDP", "D", "DS", "S", "P")),
            safetensors=safetensors,
            writer={
                "single_file_per_rank": draw.random() < 0.7,
                "sync_files": draw.random() < 0.2,
                "thread_count": draw.choice((1, 1, 2, 3)),
                "per_thread_copy_ahead": draw.choice((0, 1, 10_000, 10_000_000)),
                "overwrite": draw.random() < 0.8 or overwrites or caches,
            },
            planner={
                "dedup_save_to_lowest_rank": draw.random() < 0.4,
                "flatten_sharded_tensors": draw.random() < 0.9,
                "enable_plan_caching": caches,
            },
            times=draw.choice((2, 3)) if caches else 1,
            overwrites=overwrites and not safetensors,
            in_background=not safetensors and draw.random() < 0.2,
            request=Request(
                kinds="DDP" if safetensors else draw.choice(("DDSP", "DDP", "D", "S", "P")),
                share=draw.choice((1.0, 1.0, 0.6)),
                converted=draw.choice((0.0, 0.0, 0.0, 0.3)),
            ),
            reader={
                "thread_count": draw.choice((None, 1, 3)),
                "verify": not safetensors and draw.random() < 0.3,
            },
            damage=draw.choice((*[""] * 8, "truncated", "no file", "missing key", "wrong size")),
        )
