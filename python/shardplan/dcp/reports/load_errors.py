"""What does not fit between a state dict and a checkpoint: all of it at once.

Upstream names the first key that is missing, or whose size differs, and stops.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    TensorStorageMetadata,
)
from torch.distributed.tensor import DTensor

from ... import _core
from ...diagnosis.box_faults import short, slices, some
from ..native import native
from ..twins import planner_helpers

logger = logging.getLogger(__name__)

_MAX_NAMED = 20
_MAX_REPORT = 40_000
_MAX_TEXT = 8_000
_MAX_HOLES = 1_000


def keys(state_dict: dict[str, Any], metadata: Metadata) -> tuple[list[str], list[str]]:
    """The keys that the checkpoint lacks, and those of it that nobody asks for."""
    saved = metadata.state_dict_metadata
    if not isinstance(saved, dict):
        return [], []  # upstream has its own words for it
    missing = [key for key in state_dict if key not in saved]
    return missing, [key for key in saved if key not in state_dict]


@contextlib.contextmanager
def explained(planner: Any) -> Iterator[None]:
    """Around the making of a load plan: its error says all that does not fit."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        explain(error, planner.state_dict, planner.metadata)
        raise


def explain(error: Exception, state_dict: dict[str, Any], metadata: Metadata) -> None:
    """Says all that does not fit after an error's own words, and in its ``report``."""
    try:
        report = differences(state_dict, metadata)
        said = text(report)
        if said and len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]}\n{said}",)
            error.report = report  # type: ignore[attr-defined]
    except Exception:
        # What went wrong must reach the ranks, whatever becomes of its explanation.
        logger.exception("no explanation of a load that failed")


def differences(state_dict: dict[str, Any], metadata: Metadata) -> dict[str, Any]:
    """What does not fit, as plain data; of each kind as many as there is room for."""
    missing, unexpected = keys(state_dict, metadata)
    near = _Near(unexpected)
    named = [
        {"name": short(key), "near": near.names(key) if at < _MAX_NAMED else []}
        for at, key in enumerate(missing)
    ]
    return _fitting(
        {
            "keys": len(state_dict),
            "saved_keys": len(metadata.state_dict_metadata),
            "missing": named,
            "unexpected": [short(key) for key in unexpected],
            **_differing(state_dict, metadata),
        }
    )


def _differing(state_dict: dict[str, Any], metadata: Metadata) -> dict[str, list[dict[str, Any]]]:
    """Of the keys that both have, those of another size, dtype or kind."""
    saved: dict[str, Any] = metadata.state_dict_metadata
    sizes, dtypes, kinds = [], [], []
    for key, wanted in state_dict.items():
        if key not in saved:
            continue
        if (kind := _kind_differs(saved[key], wanted)) is not None:
            kinds.append({"name": short(key), **kind})
        elif isinstance(wanted, torch.Tensor) and type(saved[key]) is TensorStorageMetadata:
            if tuple(saved[key].size) != tuple(wanted.shape):
                sizes.append(_pair(key, list(saved[key].size), list(wanted.shape)))
            if saved[key].properties.dtype != wanted.dtype:
                dtypes.append(_pair(key, str(saved[key].properties.dtype), str(wanted.dtype)))
    return {"sizes": sizes, "dtypes": dtypes, "kinds": kinds}


def _pair(key: str, saved: Any, wanted: Any) -> dict[str, Any]:
    return {"name": short(key), "saved": saved, "wanted": wanted}


def _kind_differs(saved: Any, wanted: Any) -> dict[str, str] | None:
    """A tensor against an object, the right way round."""
    is_tensor = isinstance(wanted, torch.Tensor) or hasattr(wanted, "__create_chunk_list__")
    is_tensor = is_tensor or hasattr(wanted, "local_shards")
    if isinstance(saved, TensorStorageMetadata) and not is_tensor:
        return {"saved": f"a tensor of size {list(saved.size)}", "wanted": _object(wanted)}
    if isinstance(saved, BytesStorageMetadata) and is_tensor:
        return {"saved": "an object", "wanted": f"a tensor of size {list(wanted.size())}"}
    return None


def _object(wanted: Any) -> str:
    return f"an object of type {type(wanted).__qualname__}"


def _fitting(report: dict[str, Any]) -> dict[str, Any]:
    """A report with as much of each list as there is room for, and how much there was."""
    lists = [name for name, value in report.items() if isinstance(value, list)]
    room = _MAX_REPORT // len(lists)
    for name in lists:
        found, length = report[name], 0
        report[f"{name}_count"] = len(found)
        for at, one in enumerate(found):
            length += len(json.dumps(one))
            if length > room:
                report[name] = found[:at]
                break
    return report


class _Near:
    """Finds names of the checkpoint that are like one that it lacks."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_end: dict[str, list[str]] = {}
        for name in names:
            self._by_end.setdefault(name.rsplit(".", 1)[-1], []).append(name)
        self._ends = list(self._by_end)

    def names(self, missing: str) -> list[str]:
        end = missing.rsplit(".", 1)[-1]
        same = self._by_end.get(end, [])
        # A prefix more or less ("module.", "_orig_mod.") is the usual cause.
        moved = [name for name in same if name.endswith(missing) or missing.endswith(name)]
        if moved:
            return [short(name) for name in moved[:3]]
        alike = same
        if not alike:
            ends = difflib.get_close_matches(end, self._ends[:2_000], n=3)
            alike = [name for close in ends for name in self._by_end[close]]
        return [short(name) for name in difflib.get_close_matches(missing, alike[:2_000], n=3)]


def text(report: dict[str, Any]) -> str:
    """A report in words; empty where all fits."""
    lines = [
        _line(
            report,
            "missing",
            "{} of {keys} keys asked for {} not in the checkpoint",
            lambda one: one["name"] + (f" (near: {', '.join(one['near'])})" if one["near"] else ""),
        ),
        _line(
            report, "unexpected", "{} of {saved_keys} keys of the checkpoint {} not asked for", str
        ),
        _line(report, "sizes", "{} saved with another size", _differ),
        _line(report, "dtypes", "{} saved with another dtype", _differ),
        _line(report, "kinds", "{} saved as something else", _differ),
    ]
    return "\n".join(line for line in lines if line)[:_MAX_TEXT]


def _line(report: dict[str, Any], kind: str, head: str, say: Any) -> str:
    count = report[f"{kind}_count"]
    if not count:
        return ""
    named = some(map(say, report[kind][:_MAX_NAMED]), count)
    sizes = {name: f"{report[name]:,}" for name in ("keys", "saved_keys")}
    said = head.format(f"{count:,}", "is" if count == 1 else "are", **sizes)
    return f"{said}: {named}"


def _differ(one: dict[str, Any]) -> str:
    return f"{one['name']} (saved: {one['saved']}, asked for: {one['wanted']})"


def check_dtypes(state_dict: dict[str, Any], metadata: Metadata) -> None:
    """ValueError where a tensor was saved with another dtype, or as an object."""
    found = _differing(state_dict, metadata)
    wrong = found["dtypes"] + [one for one in found["kinds"] if one["saved"] == "an object"]
    if wrong:
        said = some(map(_differ, wrong[:_MAX_NAMED]), len(wrong))
        error = ValueError(f"Dtype mismatch between saved and current: {said}"[:_MAX_TEXT])
        error.report = differences(state_dict, metadata)  # type: ignore[attr-defined]
        raise error


def check_coverage(state_dict: dict[str, Any], metadata: Metadata) -> None:
    """ValueError where the saved boxes leave a part of a wanted region unread."""
    holes: list[dict[str, Any]] = []
    for key, wanted in state_dict.items():
        saved = metadata.state_dict_metadata.get(key)
        if not isinstance(saved, TensorStorageMetadata):
            continue
        if isinstance(wanted, DTensor) and wanted.device_mesh.get_coordinate() is None:
            continue
        boxes = _boxes(saved)
        for chunk in planner_helpers._create_chunk_list(wanted):
            found, complete = _core.holes(boxes, chunk.offsets, chunk.sizes, _MAX_HOLES)
            holes += (
                {"name": short(key), "offsets": list(offsets), "sizes": list(sizes)}
                for offsets, sizes in found
            )
            if not complete and not found:
                raise ValueError(f"{short(key)} has too many saved boxes to say what they cover")
    if holes:
        named = (
            f"{hole['name']}{slices(hole['offsets'], hole['sizes'])}" for hole in holes[:_MAX_NAMED]
        )
        said = some(named, len(holes), "regions more")
        error = ValueError(f"No saved box covers {said}"[:_MAX_TEXT])
        error.report = _fitting({"holes": holes})  # type: ignore[attr-defined]
        raise error


def _boxes(saved: TensorStorageMetadata) -> _core.Boxes:
    ndim = len(saved.size)
    boxes: _core.Boxes | None = native.boxes_of(saved.chunks, ndim)
    if boxes is None:
        offsets = array("q", (number for chunk in saved.chunks for number in chunk.offsets))
        sizes = array("q", (number for chunk in saved.chunks for number in chunk.sizes))
        boxes = _core.Boxes(ndim, offsets, sizes)
    return boxes
