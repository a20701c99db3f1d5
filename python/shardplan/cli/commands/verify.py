"""``shardplan verify``: checks whether a checkpoint can be loaded, and reports what is lost."""

from __future__ import annotations

import argparse
from array import array
from collections import defaultdict
from math import prod
from typing import Any

from ... import _core
from ...diagnosis import box_faults
from ...diagnosis.box_faults import Saved, find_faults, short, slices
from ..checkpoint.deep import read_deeply
from ..checkpoint.entries import Entry, entries_of, owners_of, rank_of_file, ranks_of
from ..checkpoint.location import Opened, open_checkpoint, stays_inside
from ..display.terminal import Terminal, busy
from ..display.wording import counted, number_text, printable
from ..failures import CommandError

HELP = "check that every tensor is complete and that every part of it lies in a file"
EXAMPLE = "shardplan verify s3://bucket/step-1000 --deep --picture damage.png"

_MAX_HOLES = 1_000
# A part of a checkpoint: index of the entry, and index of the chunk or None for an object.
Part = tuple[int, int | None]

# Headings per kind of fault, in singular and plural.
_HEADINGS = {
    "no place": (
        "is missing in storage_data",
        "are missing in storage_data",
    ),
    "outside": (
        "is in a file outside the checkpoint, which is not read",
        "are in files outside the checkpoint, which are not read",
    ),
    "no file": ("is in a file that does not exist", "are in files that do not exist"),
    "short file": (
        "extends beyond the end of its file",
        "extend beyond the end of their files",
    ),
    "unreadable": ("cannot be read", "cannot be read"),
    "checksum": (
        "has a checksum mismatch: its bytes differ from those written",
        "have checksum mismatches: their bytes differ from those written",
    ),
    "overlapping": (
        "shares bytes with an earlier part, and was not read",
        "share bytes with earlier parts, and were not read",
    ),
    "shape": (
        "differs in shape between its file and the metadata",
        "differ in shape between their files and the metadata",
    ),
    "dtype": (
        "differs in dtype between its file and the metadata",
        "differ in dtype between their files and the metadata",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="checkpoint",
        help="a directory, or an fsspec URL; the status is the worst of all checkpoints",
    )
    parser.add_argument(
        "--deep", action="store_true", help="read every part; check its bytes, shape and dtype"
    )
    parser.add_argument(
        "--rows", type=int, default=20, help="number of faults of each kind to print; default: 20"
    )
    parser.add_argument(
        "--picture", metavar="FILE", help="draw the damage of one checkpoint to a .png or .svg file"
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    if len(options.checkpoints) == 1:
        return _verify(options.checkpoints[0], options)
    if options.picture:
        raise CommandError("--picture draws one checkpoint, but several were given")
    found: list[dict[str, Any]] = []
    worst = 0
    for name in options.checkpoints:
        try:
            data, status = _verify(name, options)
        except (CommandError, OSError) as error:
            data, status = {"checkpoint": name, "sound": None, "error": str(error)}, 2
        found.append(data)
        worst = max(worst, status)
    return {"sound": worst == 0, "checkpoints": found}, worst


def _verify(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    opened = open_checkpoint(name)
    entries = entries_of(opened.checkpoint)
    data = check(opened, entries, options.deep)
    if options.picture:
        _draw(opened, entries, data, options.picture)
    return data, 0 if data["sound"] else 1


def check(opened: Opened, entries: list[Entry], deep: bool) -> dict[str, Any]:
    """Checks a checkpoint and returns all faults as plain data.

    Args:
        opened: the checkpoint.
        entries: all entries of the checkpoint.
        deep: whether every part is read.
    """
    damage = _Damage(opened, entries)
    with busy("checking files"):
        damage.check_storage()
    if deep:
        for part, kind, detail in read_deeply(opened, entries, damage.sound_parts()):
            if kind == "unchecked":
                damage.unchecked += 1
            else:
                damage.add(part, kind, detail)
    with busy("checking boxes"):
        return damage.report(deep=deep)


class _Damage:
    """Collects the faults of a checkpoint."""

    def __init__(self, opened: Opened, entries: list[Entry]) -> None:
        self.opened = opened
        self.entries = entries
        self.parts: dict[Part, tuple[str, str]] = {}  # the first fault of each part
        self._boxes: dict[int, _core.Boxes | None] = {}
        self._locations: dict[int, list[Any]] = {}
        self.shared: list[dict[str, Any]] = []
        self.unchecked = 0  # number of parts without checksums
        self.repeated: list[dict[str, Any]] = []
        self.unclaimed: list[dict[str, Any]] = []

    def add(self, part: Part, kind: str, detail: str) -> None:
        """Records a fault of a part, unless the part already has one."""
        self.parts.setdefault(part, (kind, detail))

    def boxes(self, at: int) -> _core.Boxes | None:
        """Returns the boxes of an entry; None if one ends beyond int64."""
        if at not in self._boxes:
            self._boxes[at] = self.opened.checkpoint.boxes(at)
        return self._boxes[at]

    def file_of(self, part: Part) -> str | None:
        """Returns the file of a part according to storage_data; None if it is missing there."""
        at, chunk = part
        if chunk is None and self.entries[at].kind == "tensor":
            return None
        if at not in self._locations:
            self._locations[at] = self.opened.checkpoint.locations(at)
        places = self._locations[at]
        place = places[chunk or 0] if (chunk or 0) < len(places) else None
        return None if place is None else place[0]

    def check_storage(self) -> None:
        """Checks storage_data and the sizes of files."""
        faults = self.opened.checkpoint.faults(self.opened.sizes())
        for entry, chunk in faults["without_location"]:
            self.add((entry, chunk), "no place", "")
        for part, _, (file, *_) in faults["no_file"]:
            if part is not None:
                self.add(part, "no file" if stays_inside(file) else "outside", "")
        for part, _, (_, begin, length, _) in faults["beyond_end"]:
            if part is not None:
                self.add(part, "short file", f"bytes {begin:,} to {begin + length:,}")
        for (_, name, ignored), (part, _, read) in faults["repeated"]:
            self.repeated.append(
                {
                    "name": name,
                    "offsets": None if part is None else self._named(part)["offsets"],
                    "ignored": _place(ignored),
                    "read": _place(read),
                }
            )
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
        """Returns the parts without known faults."""
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
        """Checks the boxes and returns all faults as plain data."""
        invalid = self.opened.checkpoint.invalid_entries(self.opened.whole)
        lost = self._lost(invalid)
        faults = self._faults_of_boxes(invalid)
        tensors = [entry for entry in self.entries if entry.kind == "tensor"]
        boxes = box_faults.report(faults, len(tensors), None)
        kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for part, (kind, detail) in self.parts.items():
            found = {**self._named(part), "file": self.file_of(part), "detail": detail}
            kinds[kind].append(found)
        damaged = {one["name"] for one in lost}
        unknown = sum(entry.kind == "unknown" for entry in self.entries)
        sound = not (self.parts or self.shared or self.repeated or boxes["bad"] or unknown)
        return {
            "checkpoint": self.opened.name,
            "sound": sound and not self.opened.checkpoint.unreadable_locations,
            "deep": deep,
            "entries": len(self.entries),
            "chunks": sum(entry.chunks for entry in tensors),
            "files": len(self.opened.checkpoint.files()),
            "whole_checkpoint": self.opened.whole,
            "problems": {kind: found for kind, found in sorted(kinds.items())},
            "shared_bytes": self.shared,
            "without_checksums": self.unchecked,
            "repeated_keys": self.repeated,
            "boxes": boxes,
            "unknown_entries": unknown,
            "unknown_places": self.opened.checkpoint.unreadable_locations,
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

    def _faults_of_boxes(self, invalid: list[int]) -> list[box_faults.Faults]:
        """Returns faults of boxes: out of bounds, overlaps and, if metadata is complete, holes."""
        found = []
        for at in invalid:
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

    def _lost(self, invalid: list[int]) -> list[dict[str, Any]]:
        """Returns the elements of each entry that cannot be loaded, worst first."""
        broken: dict[int, set[int | None]] = defaultdict(set)
        for (at, chunk), (kind, _) in self.parts.items():
            if kind != "dtype":  # DCP converts the dtype when it loads
                broken[at].add(chunk)
        if self.opened.whole:
            broken.update((at, broken[at]) for at in invalid)
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
        """Returns the regions that no usable box covers, and whether these are all."""
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
        return _core.holes(kept, [0] * len(shape), shape, _MAX_HOLES)


def _files(opened: Opened, at: int) -> list[str | None]:
    """Returns the file of each box of an entry; None if it is missing in storage_data."""
    return [None if place is None else place[0] for place in opened.checkpoint.locations(at)]


def _place(place: tuple[str, int, int, bool]) -> dict[str, Any]:
    file, begin, length, _ = place
    return {"file": file, "begin": begin, "bytes": length}


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
    from ..display import pictures

    damaged = {one["file"] for found in data["problems"].values() for one in found}
    damaged |= {one["file"] for one in data["shared_bytes"]}
    files = sorted(
        opened.checkpoint.files(), key=lambda each: (rank_of_file(each[0]) or 0, each[0])
    )
    panels: list[Any] = [
        pictures.Bars(
            "bytes per file" + (", damaged ones marked" if damaged - {None} else ""),
            [size for _, _, size, _ in files],
            marked=[at for at, (name, *_) in enumerate(files) if name in damaged],
            what="file",
        )
    ]
    worst = next((one for one in data["lost"] if one["regions"]), None)
    faulty = {one["name"] for one in data["boxes"]["tensors"][:1]}
    shown = (
        each
        for each in entries
        if (each.name == worst["name"] if worst else short(each.name) in faulty)
    )
    entry = next(shown, None)
    boxes = None if entry is None else opened.checkpoint.boxes(entry.at)
    if entry is not None and boxes is not None and entry.shape:
        owners, what = owners_of(_files(opened, entry.at))
        panels.append(
            pictures.Boxes(
                entry.name,
                f"{list(entry.shape)}: what is lost",
                list(entry.shape),
                [_core.box(boxes, at) for at in range(len(boxes))],
                owners,
                what,
                holes=[(one["offsets"], one["sizes"]) for one in (worst or {}).get("regions", [])],
            )
        )
    pictures.draw(file, panels)


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    if "checkpoints" not in data:
        _show_one(data, out, options)
        return
    for at, one in enumerate(data["checkpoints"]):
        if at:
            out.line()
        if "error" in one:
            out.bad(f"{one['checkpoint']}: not verified: {one['error']}")
        else:
            _show_one(one, out, options)
    bad = [one for one in data["checkpoints"] if one["sound"] is False]
    failed = sum("error" in one for one in data["checkpoints"])
    out.line()
    (out.good if data["sound"] else out.bad)(
        f"{counted(len(data['checkpoints']), 'checkpoint')}: "
        f"{len(data['checkpoints']) - len(bad) - failed:,} sound, {len(bad):,} damaged"
        + (f", {failed:,} not verified" if failed else "")
    )


def _show_one(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    rows = max(options.rows, 0)
    out.line(
        f"{data['checkpoint']}: {counted(data['entries'], 'entry', 'entries')} in "
        f"{counted(data['chunks'], 'box', 'boxes')}, {counted(data['files'], 'file')}"
    )
    if not data["whole_checkpoint"]:
        out.line("this is the metadata of one rank, so holes are not reported")
    for kind, found in data["problems"].items():
        out.heading(f"{_parts(found)} {_HEADINGS[kind][len(found) != 1]}:")
        for one in found[:rows]:
            box = "" if one["offsets"] is None else slices(one["offsets"], one["sizes"])
            details = [each for each in (one["file"], one["detail"]) if each]
            out.line(f"  {one['name']}{box}{': ' if details else ''}{', '.join(details)}")
        out.more(len(found) - rows)
    _show_repeated(data["repeated_keys"], out, rows)
    if shared := data["shared_bytes"]:
        verb = "shares" if len(shared) == 1 else "share"
        out.heading(f"{counted(len(shared), 'pair')} of items {verb} bytes of a file:")
        for one in shared[:rows]:
            a, b = one["a"], one["b"]
            out.line(
                f"  {one['file']}: {a['name']} from byte {a['begin']:,}, {a['bytes']:,} long, and "
                f"{b['name']} from byte {b['begin']:,}, {b['bytes']:,} long"
            )
        out.more(len(shared) - rows)
    if data["boxes"]["bad"]:
        tensors = [{**one, "name": printable(one["name"])} for one in data["boxes"]["tensors"]]
        out.line()
        for at, line in enumerate(
            box_faults.text({**data["boxes"], "tensors": tensors}, rows).split("\n")
        ):
            out.line(line, "" if at else "bold")
    unknown, unreadable = data["unknown_entries"], data["unknown_places"]
    unclaimed = len(data["unclaimed"])
    if unknown:
        verb = "has" if unknown == 1 else "have"
        out.heading(f"{counted(unknown, 'entry', 'entries')} {verb} an unsupported type")
    if unreadable:
        out.heading(f"{counted(unreadable, 'storage_data item')} with no readable location")
    if unclaimed:
        belongs = "belongs" if unclaimed == 1 else "belong"
        out.heading(f"{counted(unclaimed, 'storage_data item')} {belongs} to no entry")
    _show_lost(data, out, rows)


def _parts(found: list[dict[str, Any]]) -> str:
    """Counts faulty parts: ``2 boxes``, ``1 entry``, or ``3 parts`` if there are both."""
    boxes = sum(one["offsets"] is not None for one in found)
    if boxes == len(found):
        return counted(boxes, "box", "boxes")
    return counted(len(found), "part") if boxes else counted(len(found), "entry", "entries")


def _show_repeated(repeated: list[dict[str, Any]], out: Terminal, rows: int) -> None:
    if not repeated:
        return
    are = "item is" if len(repeated) == 1 else "items are"
    out.heading(
        f"{len(repeated):,} storage_data {are} ignored, because a later one has the same key:"
    )
    for one in repeated[:rows]:
        ignored, read = one["ignored"], one["read"]
        at = "" if one["offsets"] is None else f" at {one['offsets']}"
        out.line(
            f"  {one['name']}{at}: {ignored['file']} from byte {ignored['begin']:,}, "
            f"{ignored['bytes']:,} long, is ignored for {read['file']} from byte "
            f"{read['begin']:,}, {read['bytes']:,} long"
        )
    out.more(len(repeated) - rows)


def _show_lost(data: dict[str, Any], out: Terminal, rows: int) -> None:
    out.line()
    entries = counted(data["entries"], "entry", "entries")
    if data["sound"]:
        read = "every part was read" if data["deep"] else "no tensor was read; use --deep for that"
        if unchecked := data["without_checksums"]:
            have = "has" if unchecked == 1 else "have"
            read += (
                f"; {counted(unchecked, 'part')} {have} no checksum, so damage may be undetected"
            )
        out.good(f"sound: {entries} can be loaded ({read})")
        return
    if data["lost"]:
        out.bad(f"lost, in whole or in part: {counted(len(data['lost']), 'entry', 'entries')}")
        for one in data["lost"][:rows]:
            regions = [slices(box["offsets"], box["sizes"]) for box in one["regions"][:4]]
            more = len(one["regions"]) - len(regions)
            where = ", ".join(regions)
            if more > 0:
                where += f", and {counted(more, 'more region')}"
            of = counted(one["of"], "element")
            share = f"{number_text(one['elements'])} of {of}" if regions else "all of it"
            out.line(f"  {one['name']}: {share}{': ' + where if where else ''}")
        out.more(len(data["lost"]) - rows)
    else:
        out.bad("damaged, but nothing is lost")
    out.line(f"can still be loaded: {data['loadable']:,} of {entries}")
