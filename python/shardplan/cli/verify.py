"""``shardplan verify``: whether a checkpoint can be loaded, and what is lost where it cannot."""

from __future__ import annotations

import argparse
from array import array
from collections import defaultdict
from math import prod
from typing import Any

from .. import _core, _diagnosis
from .._diagnosis import Saved, find_faults, slices
from .deep import read_deeply
from .entries import Entry, entries_of, owners_of, rank_of_file, ranks_of
from .location import Opened, open_checkpoint, stays_inside
from .terminal import Terminal, busy

HELP = "whether every tensor is whole and every part of it lies in a file"
EXAMPLE = "shardplan verify s3://bucket/step-1000 --deep --picture damage.png"

_MOST_HOLES = 1_000
# A part of a checkpoint: an entry, and which of its chunks; None for an object.
Part = tuple[int, int | None]

_SAID = {
    "no place": "is in no file: storage_data does not have it",
    "outside": "is in a file outside the checkpoint, which is not looked at",
    "no file": "is in a file that does not exist",
    "short file": "reaches beyond the end of its file",
    "unreadable": "cannot be read",
    "checksum": "has other bytes than were written: its checksum differs",
    "shape": "has another shape in its file",
    "dtype": "has another dtype in its file",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a directory, or an fsspec URL")
    parser.add_argument(
        "--deep", action="store_true", help="read every part: its bytes, shape and dtype"
    )
    parser.add_argument("--rows", type=int, default=20, help="how many of each kind to print")
    parser.add_argument("--picture", metavar="FILE", help="what is damaged, .png or .svg")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    opened = open_checkpoint(options.checkpoint)
    entries = entries_of(opened.checkpoint)
    damage = _Damage(opened, entries)
    with busy("looking at files"):
        damage.look_at_storage()
    if options.deep:
        for part, kind, detail in read_deeply(opened, entries, damage.sound_parts()):
            damage.add(part, kind, detail)
    with busy("looking at boxes"):
        data = damage.report(deep=options.deep)
    if options.picture:
        _draw(opened, entries, data, options.picture)
    return data, 0 if data["sound"] else 1


class _Damage:
    """What is wrong with a checkpoint, found step by step."""

    def __init__(self, opened: Opened, entries: list[Entry]) -> None:
        self.opened = opened
        self.entries = entries
        self.parts: dict[Part, tuple[str, str]] = {}  # the first thing that is wrong with each
        self._boxes: dict[int, _core.Boxes | None] = {}
        self.shared: list[dict[str, Any]] = []
        self.unclaimed: list[dict[str, Any]] = []

    def add(self, part: Part, kind: str, detail: str) -> None:
        self.parts.setdefault(part, (kind, detail))

    def boxes(self, at: int) -> _core.Boxes | None:
        """The boxes of an entry."""
        if at not in self._boxes:
            self._boxes[at] = self.opened.checkpoint.boxes(at)
        return self._boxes[at]

    def look_at_storage(self) -> None:
        faults = self.opened.checkpoint.faults(self.opened.sizes())
        for entry, chunk in faults["unplaced"]:
            self.add((entry, chunk), "no place", "")
        for part, _, (file, *_) in faults["no_file"]:
            if part is not None:
                self.add(part, "no file" if stays_inside(file) else "outside", file)
        for part, _, (file, begin, length, _) in faults["beyond_end"]:
            if part is not None:
                self.add(part, "short file", f"{file}, bytes {begin:,} to {begin + length:,}")
        for a, b in faults["shared"]:
            (_, name_a, place), (_, name_b, other) = a, b
            self.shared.append(
                {
                    "file": place[0],
                    "a": {"name": name_a, "begin": place[1], "bytes": place[2]},
                    "b": {"name": name_b, "begin": other[1], "bytes": other[2]},
                }
            )
        self.unclaimed = [
            {"name": name, "file": place[0]} for _, name, place in faults["unclaimed"]
        ]

    def sound_parts(self) -> list[Part]:
        """Those with which nothing was found wrong so far."""
        return [
            part
            for entry in self.entries
            for part in (
                [(entry.at, chunk) for chunk in range(entry.chunks)]
                if entry.kind == "tensor"
                else [(entry.at, None)]
            )
            if part not in self.parts
        ]

    def report(self, deep: bool) -> dict[str, Any]:
        unsound = self.opened.checkpoint.unsound(self.opened.whole)
        lost = self._lost(unsound)
        faults = self._faults_of_boxes(unsound)
        tensors = [entry for entry in self.entries if entry.kind == "tensor"]
        boxes = _diagnosis.report(faults, len(tensors), None)
        kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for part, (kind, detail) in self.parts.items():
            kinds[kind].append({**self._named(part), "detail": detail})
        damaged = {one["name"] for one in lost}
        unknown = sum(entry.kind == "unknown" for entry in self.entries)
        sound = not (self.parts or self.shared or boxes["bad"] or unknown)
        return {
            "checkpoint": self.opened.name,
            "sound": sound and not self.opened.checkpoint.odd_places,
            "deep": deep,
            "entries": len(self.entries),
            "chunks": sum(entry.chunks for entry in tensors),
            "files": len(self.opened.checkpoint.files()),
            "whole_checkpoint": self.opened.whole,
            "problems": {kind: found for kind, found in sorted(kinds.items())},
            "shared_bytes": self.shared,
            "boxes": boxes,
            "unknown_entries": unknown,
            "unknown_places": self.opened.checkpoint.odd_places,
            "unclaimed": self.unclaimed,
            "lost": lost,
            "loadable": len(self.entries) - len(damaged) - unknown,
        }

    def _named(self, part: Part) -> dict[str, Any]:
        entry = self.entries[part[0]]
        boxes = self.boxes(entry.at) if part[1] is not None else None
        if boxes is None or part[1] is None:
            return {"name": entry.name, "offsets": None, "sizes": None}
        offsets, sizes = _core.box(boxes, part[1])
        return {"name": entry.name, "offsets": offsets, "sizes": sizes}

    def _faults_of_boxes(self, unsound: list[int]) -> list[_diagnosis.Faults]:
        """Boxes out of bounds, overlapping, or leaving holes: of one rank's file, no holes."""
        found = []
        for at in unsound:
            boxes = self.boxes(at)
            if boxes is None:
                self.add((at, None), "unreadable", "a box ends beyond int64")
                continue
            entry = self.entries[at]
            saved = Saved(entry.name, entry.shape, boxes, ranks_of(_files(self.opened, at)))
            if faults := find_faults(saved, self.opened.whole):
                found.append(faults)
            elif not entry.shape:
                self.add((at, None), "no place", "")
        return found

    def _lost(self, unsound: list[int]) -> list[dict[str, Any]]:
        """What of each entry cannot be loaded, whatever the reason; worst first."""
        broken: dict[int, set[int | None]] = defaultdict(set)
        for (at, chunk), (kind, _) in self.parts.items():
            if kind != "dtype":  # it loads, converted
                broken[at].add(chunk)
        if self.opened.whole:
            broken.update((at, broken[at]) for at in unsound)
        lost = []
        for at, chunks in broken.items():
            entry = self.entries[at]
            if entry.kind != "tensor" or not entry.shape:
                missing = chunks or not entry.chunks
                if missing:
                    lost.append(_lost_entry(entry, entry.elements or 1, [], True))
                continue
            if regions := self._regions(entry, chunks):
                holes, complete = regions
                elements = sum(prod(sizes) for _, sizes in holes)
                if elements:
                    lost.append(_lost_entry(entry, elements, holes, complete))
        return sorted(lost, key=lambda one: -one["elements"])

    def _regions(self, entry: Entry, broken: set[int | None]) -> Any:
        boxes = self.boxes(entry.at)
        shape = list(entry.shape)
        if boxes is None:
            return [([0] * len(shape), shape)], True
        if not self.opened.whole:
            pairs = [_core.box(boxes, at) for at in broken if at is not None]
            return pairs, True
        offsets, sizes = array("q"), array("q")
        for at in range(len(boxes)):
            if at not in broken:
                start, length = _core.box(boxes, at)
                offsets.extend(start)
                sizes.extend(length)
        kept = _core.Boxes(len(shape), offsets, sizes)
        return _core.holes(kept, [0] * len(shape), shape, _MOST_HOLES)


def _files(opened: Opened, at: int) -> list[str | None]:
    """The file of each box of an entry."""
    return [None if place is None else place[0] for place in opened.checkpoint.places(at)]


def _lost_entry(entry: Entry, elements: int, holes: Any, complete: bool) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "elements": elements,
        "of": entry.elements or 1,
        "all_regions": complete,
        "regions": [{"offsets": list(offsets), "sizes": list(sizes)} for offsets, sizes in holes],
    }


def _draw(opened: Opened, entries: list[Entry], data: dict[str, Any], file: str) -> None:
    from . import pictures

    hurt = {one["detail"].split(",")[0] for found in data["problems"].values() for one in found}
    files = sorted(
        opened.checkpoint.files(), key=lambda each: (rank_of_file(each[0]) or 0, each[0])
    )
    panels: list[Any] = [
        pictures.Bars(
            "bytes a file" + (", damaged ones marked" if hurt else ""),
            [size for _, _, size, _ in files],
            marked=[at for at, (name, *_) in enumerate(files) if name in hurt],
            what="file",
        )
    ]
    worst = next((one for one in data["lost"] if one["regions"]), None)
    name = worst["name"] if worst else next((one["name"] for one in data["boxes"]["tensors"]), None)
    entry = next((each for each in entries if each.name == name), None)
    boxes = None if entry is None else opened.checkpoint.boxes(entry.at)
    if entry is not None and boxes is not None and entry.shape:
        owners, what = owners_of(_files(opened, entry.at))
        panels.append(
            pictures.Boxes(
                f"{entry.name} {list(entry.shape)}: what is lost",
                list(entry.shape),
                [_core.box(boxes, at) for at in range(len(boxes))],
                owners,
                what,
                holes=[(one["offsets"], one["sizes"]) for one in (worst or {}).get("regions", [])],
            )
        )
    pictures.draw(file, panels)


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    rows = max(options.rows, 0)
    out.line(
        f"{data['checkpoint']}: {data['entries']:,} entries in {data['chunks']:,} boxes, "
        f"{data['files']:,} files"
    )
    if not data["whole_checkpoint"]:
        out.line("the metadata of one rank: what other ranks hold is not missed")
    for kind, found in data["problems"].items():
        out.heading(f"{len(found):,} x {_SAID[kind]}")
        for one in found[:rows]:
            box = "" if one["offsets"] is None else slices(one["offsets"], one["sizes"])
            detail = f": {one['detail']}" if one["detail"] else ""
            out.line(f"  {one['name']}{box}{detail}")
        out.more(len(found) - rows)
    if data["shared_bytes"]:
        out.heading(f"{len(data['shared_bytes']):,} x two items share bytes of a file")
        for one in data["shared_bytes"][:rows]:
            a, b = one["a"], one["b"]
            out.line(
                f"  {one['file']}: {a['name']} from byte {a['begin']:,}, {a['bytes']:,} long, and "
                f"{b['name']} from byte {b['begin']:,}, {b['bytes']:,} long"
            )
        out.more(len(data["shared_bytes"]) - rows)
    if data["boxes"]["bad"]:
        out.heading(_diagnosis.text(data["boxes"], rows))
    for key, said in (
        ("unknown_entries", "entries are nothing that DCP saves"),
        ("unknown_places", "items of storage_data say no place"),
    ):
        if data[key]:
            out.heading(f"{data[key]:,} {said}")
    if data["unclaimed"]:
        out.heading(f"{len(data['unclaimed']):,} items lie in files and belong to no entry")
    _show_lost(data, out, rows)


def _show_lost(data: dict[str, Any], out: Terminal, rows: int) -> None:
    out.line()
    if data["sound"]:
        read = "every part was read" if data["deep"] else "no tensor was read: --deep does"
        out.good(f"sound: {data['entries']:,} entries can be loaded ({read})")
        return
    if data["lost"]:
        out.bad(f"lost, in whole or in part: {len(data['lost']):,} entries")
        for one in data["lost"][:rows]:
            regions = [slices(box["offsets"], box["sizes"]) for box in one["regions"][:4]]
            more = len(one["regions"]) - len(regions)
            where = ", ".join(regions) + (f", and {more:,} regions more" if more > 0 else "")
            share = f"{one['elements']:,} of {one['of']:,} elements" if regions else "all of it"
            out.line(f"  {one['name']}: {share}{': ' + where if where else ''}")
        out.more(len(data["lost"]) - rows)
    else:
        out.bad("damaged, and nothing is lost")
    out.line(f"can still be loaded: {data['loadable']:,} of {data['entries']:,} entries")
