"""Reports of all mismatches between a state dict and a checkpoint.

Upstream's error names only the first key that is missing or differs in size.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator
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
from ..upstream import versions

logger = logging.getLogger(__name__)

_MAX_NAMED = 20
_MAX_REPORT = 40_000
_MAX_TEXT = 8_000
_MAX_HOLES = 1_000


def keys(state_dict: dict[str, Any], metadata: Metadata) -> tuple[list[str], list[str]]:
    """Returns the keys missing in the checkpoint, and its keys that are not in the state dict."""
    saved = metadata.state_dict_metadata
    if not isinstance(saved, dict):
        return [], []  # upstream raises its own error for this
    missing = [key for key in state_dict if key not in saved]
    return missing, [key for key in saved if key not in state_dict]


@contextlib.contextmanager
def add_mismatches(planner: Any) -> Iterator[None]:
    """Context manager that appends all mismatches to an error raised by planning a load."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        explain(error, planner.state_dict, planner.metadata)
        raise


def explain(error: Exception, state_dict: dict[str, Any], metadata: Metadata) -> None:
    """Appends all mismatches to an error's message, and stores them as its ``report``."""
    try:
        report = differences(state_dict, metadata)
        details = text(report)
        if details and len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]}\n{details}",)
            error.report = report  # type: ignore[attr-defined]
    except Exception:
        # The error itself must reach all ranks even if the report fails.
        logger.exception("the report of a failed load could not be created")


def differences(state_dict: dict[str, Any], metadata: Metadata) -> dict[str, Any]:
    """Returns all mismatches as plain data, with truncated lists and full counts."""
    missing, unexpected = keys(state_dict, metadata)
    near = _SimilarNames(unexpected)
    named = [
        {"name": short(key), "near": near.names(key) if at < _MAX_NAMED else []}
        for at, key in enumerate(missing)
    ]
    return _truncated(
        {
            "keys": len(state_dict),
            "saved_keys": len(metadata.state_dict_metadata),
            "missing": named,
            "unexpected": [short(key) for key in unexpected],
            **_mismatches(state_dict, metadata),
        }
    )


def _mismatches(state_dict: dict[str, Any], metadata: Metadata) -> dict[str, list[dict[str, Any]]]:
    """Returns the keys of the state dict that were saved with another size, dtype or kind."""
    saved: dict[str, Any] = metadata.state_dict_metadata
    sizes, dtypes, kinds = [], [], []
    for key, wanted in state_dict.items():
        if key not in saved:
            continue
        if (kind := _kind_mismatch(saved[key], wanted)) is not None:
            kinds.append({"name": short(key), **kind})
        elif isinstance(wanted, torch.Tensor) and type(saved[key]) is TensorStorageMetadata:
            shape = versions.global_shape(wanted)
            if tuple(saved[key].size) != shape:
                sizes.append(_mismatch(key, list(saved[key].size), list(shape)))
            if saved[key].properties.dtype != wanted.dtype:
                dtypes.append(_mismatch(key, str(saved[key].properties.dtype), str(wanted.dtype)))
    return {"sizes": sizes, "dtypes": dtypes, "kinds": kinds}


def _mismatch(key: str, saved: Any, wanted: Any) -> dict[str, Any]:
    return {"name": short(key), "saved": saved, "wanted": wanted}


def _kind_mismatch(saved: Any, wanted: Any) -> dict[str, str] | None:
    """Describes an entry that is a tensor on one side and an object on the other, else None."""
    is_tensor = isinstance(wanted, torch.Tensor) or hasattr(wanted, "__create_chunk_list__")
    is_tensor = is_tensor or hasattr(wanted, "local_shards")
    if isinstance(saved, TensorStorageMetadata) and not is_tensor:
        return {"saved": f"a tensor of size {list(saved.size)}", "wanted": _object_text(wanted)}
    if isinstance(saved, BytesStorageMetadata) and is_tensor:
        return {"saved": "an object", "wanted": f"a tensor of size {list(wanted.size())}"}
    return None


def _object_text(wanted: Any) -> str:
    return f"an object of type {type(wanted).__qualname__}"


def _truncated(report: dict[str, Any]) -> dict[str, Any]:
    """Truncates the lists of a report to a size limit, and adds their full counts."""
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


class _SimilarNames:
    """Finds names in the checkpoint that are similar to a missing one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_end: dict[str, list[str]] = {}
        for name in names:
            self._by_end.setdefault(name.rsplit(".", 1)[-1], []).append(name)
        self._ends = list(self._by_end)

    def names(self, missing: str) -> list[str]:
        end = missing.rsplit(".", 1)[-1]
        same = self._by_end.get(end, [])
        # The usual cause is an added or missing prefix ("module.", "_orig_mod.").
        moved = [name for name in same if name.endswith(missing) or missing.endswith(name)]
        if moved:
            return [short(name) for name in moved[:3]]
        alike = same
        if not alike:
            ends = difflib.get_close_matches(end, self._ends[:2_000], n=3)
            alike = [name for close in ends for name in self._by_end[close]]
        return [short(name) for name in difflib.get_close_matches(missing, alike[:2_000], n=3)]


def text(report: dict[str, Any]) -> str:
    """Formats a report as text; empty if there are no mismatches."""
    lines = [
        _line(
            report,
            "missing",
            "{} of {keys} keys of the state dict {} not in the checkpoint",
            _missing_text,
        ),
        _line(
            report,
            "unexpected",
            "{} of {saved_keys} keys of the checkpoint {} not in the state dict",
            str,
        ),
        _line(report, "sizes", "{} saved with another size", _mismatch_text),
        _line(report, "dtypes", "{} saved with another dtype", _mismatch_text),
        _line(report, "kinds", "{} saved as another kind of entry", _mismatch_text),
    ]
    return "\n".join(line for line in lines if line)[:_MAX_TEXT]


def _line(report: dict[str, Any], kind: str, head: str, describe: Callable[[Any], str]) -> str:
    count = report[f"{kind}_count"]
    if not count:
        return ""
    named = some(map(describe, report[kind][:_MAX_NAMED]), count)
    sizes = {name: f"{report[name]:,}" for name in ("keys", "saved_keys")}
    message = head.format(f"{count:,}", "is" if count == 1 else "are", **sizes)
    return f"{message}: {named}"


def _missing_text(one: dict[str, Any]) -> str:
    similar = f" (similar: {', '.join(one['near'])})" if one["near"] else ""
    return f"{one['name']}{similar}"


def _mismatch_text(one: dict[str, Any]) -> str:
    return f"{one['name']} (saved: {one['saved']}, requested: {one['wanted']})"


def check_dtypes(state_dict: dict[str, Any], metadata: Metadata) -> None:
    """Checks that all tensors were saved as tensors of the same dtype.

    Raises:
        ValueError: a tensor was saved with another dtype, or as an object.
    """
    found = _mismatches(state_dict, metadata)
    wrong = found["dtypes"] + [one for one in found["kinds"] if one["saved"] == "an object"]
    if wrong:
        message = some(map(_mismatch_text, wrong[:_MAX_NAMED]), len(wrong))
        error = ValueError(f"Dtype mismatch between saved and current: {message}"[:_MAX_TEXT])
        error.report = differences(state_dict, metadata)  # type: ignore[attr-defined]
        raise error


def check_coverage(state_dict: dict[str, Any], metadata: Metadata) -> None:
    """Checks that saved boxes cover every box that this rank loads.

    Raises:
        ValueError: a region to load is in no saved box, or there are too many boxes to tell.
    """
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
                raise ValueError(f"{short(key)} has too many saved boxes to check their coverage")
    if holes:
        named = (
            f"{hole['name']}{slices(hole['offsets'], hole['sizes'])}" for hole in holes[:_MAX_NAMED]
        )
        regions = some(named, len(holes), "more regions")
        error = ValueError(f"No saved box covers {regions}"[:_MAX_TEXT])
        error.report = _truncated({"holes": holes})  # type: ignore[attr-defined]
        raise error


def _boxes(saved: TensorStorageMetadata) -> _core.Boxes:
    ndim = len(saved.size)
    boxes: _core.Boxes | None = native.boxes_of(saved.chunks, ndim)
    if boxes is None:
        offsets = array("q", (number for chunk in saved.chunks for number in chunk.offsets))
        sizes = array("q", (number for chunk in saved.chunks for number in chunk.sizes))
        boxes = _core.Boxes(ndim, offsets, sizes)
    return boxes
