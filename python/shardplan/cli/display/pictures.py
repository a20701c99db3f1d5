"""Pictures of boxes and of bytes per rank or file, drawn with matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ..failures import INSTALL, CommandError
from .wording import bytes_text, counted, printable, shortened

# Up to this number of owners, each has a distinct colour and a label.
_MAX_DISTINCT_COLOURS = 12
_MAX_LABELS = 64
_MAX_DRAWN = 50_000
_MAX_HATCHED = 1_000
_FORMATS = (".png", ".svg")


@dataclass
class Boxes:
    """A panel with the boxes of one tensor, coloured by owner.

    Attributes:
        name: name of the tensor.
        about: text after the name in the title.
        shape: shape of the tensor.
        boxes: (offsets, sizes) of each box.
        owners: the owner of each box, which is a rank or a file name.
        what: "rank" or "file".
        holes: (offsets, sizes) of regions that no box covers.
    """

    name: str
    about: str
    shape: Sequence[int]
    boxes: Sequence[tuple[Sequence[int], Sequence[int]]]
    owners: Sequence[Any]
    what: str
    holes: Sequence[tuple[Sequence[int], Sequence[int]]] = ()


@dataclass
class Bars:
    """A panel with one bar per rank or file.

    Attributes:
        title: title of the panel.
        values: bytes of each rank or file.
        marked: indices of highlighted bars.
        what: "rank" or "file".
        beside: a second value of each rank or file, drawn as a line.
        names: legend of the bars, the line and the highlighted bars.
    """

    title: str
    values: Sequence[int]
    marked: Sequence[int] = ()
    what: str = "rank"
    beside: Sequence[int] = ()
    names: Sequence[str] = field(default=("bytes", "", "damaged"))


def draw(file: str, panels: Sequence[Boxes | Bars]) -> None:
    """Writes a picture.

    Args:
        file: path of a .png or .svg file.
        panels: the panels, drawn one below the other.

    Raises:
        CommandError: matplotlib is missing, or the file cannot be written or has another suffix.
    """
    if not file.endswith(_FORMATS):
        raise CommandError(f"a picture must be a .png or .svg file, not {file}")
    try:
        import matplotlib
    except ImportError as error:
        raise CommandError(f"pictures need matplotlib:  {INSTALL}") from error
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    heights = [4.2 if isinstance(panel, Boxes) else 3.2 for panel in panels]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained", dpi=130)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, axis in zip(panels, axes, strict=True):
        if isinstance(panel, Boxes):
            _draw_boxes(figure, axis, panel)
        else:
            _draw_bars(axis, panel)
    try:
        # matplotlib warns about characters that the font lacks.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figure.savefig(file)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error}") from error


def _title(axis: Any, text: str, **style: Any) -> None:
    """Sets a title as plain text, without mathtext or control characters."""
    axis.set_title(printable(text), fontsize=10, parse_math=False, **style)


def _colour_map(owners: Sequence[Any]) -> tuple[list[Any], dict[Any, Any], Any]:
    """Returns the sorted owners, their colours, and the colour scale if there are many owners."""
    import matplotlib

    known = sorted(set(owners), key=lambda owner: (isinstance(owner, str), owner))
    many = len(known) > _MAX_DISTINCT_COLOURS
    scale = matplotlib.colormaps["viridis" if many else "tab20"]
    last = max(len(known) - 1, 1)
    of = {owner: scale(at / last if many else at % 20) for at, owner in enumerate(known)}
    return known, of, scale if many else None


def _two_dims(panel: Boxes) -> tuple[int, int | None]:
    """Returns the two dims with the most shards: the vertical one and the horizontal one."""
    starts = [len({tuple(box)[dim] for box, _ in panel.boxes}) for dim in range(len(panel.shape))]
    ranked = sorted(range(len(panel.shape)), key=lambda dim: (-starts[dim], dim))
    if len(ranked) == 1:
        return ranked[0], None
    down, across = sorted(ranked[:2])
    return down, across


def _draw_boxes(figure: Any, axis: Any, panel: Boxes) -> None:
    import numpy
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    down, across = _two_dims(panel)

    def polygons(boxes: Iterable[tuple[Sequence[int], Sequence[int]]], **style: Any) -> Any:
        # matplotlib handles one array faster than a list of polygons.
        found: Any = numpy.array([*map(corners, boxes)]).reshape(-1, 4, 2)
        return PolyCollection(found, **style)

    def corners(box: tuple[Sequence[int], Sequence[int]]) -> list[tuple[float, float]]:
        offsets, sizes = box
        top, bottom = float(offsets[down]), float(offsets[down] + sizes[down])
        if across is None:
            return [(top, 0.0), (bottom, 0.0), (bottom, 1.0), (top, 1.0)]
        left, right = float(offsets[across]), float(offsets[across] + sizes[across])
        return [(left, top), (right, top), (right, bottom), (left, bottom)]

    known, colour, scale = _colour_map(panel.owners)
    full = [at for at, (_, sizes) in enumerate(panel.boxes) if prod(sizes) > 0]
    drawn = full[:_MAX_DRAWN]
    edge = 0.6 if len(drawn) <= 256 else 0.15 if len(drawn) <= 4_096 else 0.0
    axis.add_collection(
        polygons(
            (panel.boxes[at] for at in drawn),
            facecolors=[colour[panel.owners[at]] for at in drawn],
            edgecolors="white" if edge else "none",
            linewidths=edge,
            alpha=0.85,
        )
    )
    marks = []
    if overlapping := _overlaps(panel, drawn):
        marks.append(Patch(facecolor="none", edgecolor="red", hatch="xxx", label="overlap"))
        axis.add_collection(polygons(overlapping, facecolors="none", edgecolors="red", hatch="xxx"))
    if panel.holes:
        marks.append(Patch(facecolor="black", edgecolor="red", hatch="///", label="hole"))
        few = len(panel.holes) <= _MAX_HATCHED
        axis.add_collection(
            polygons(
                panel.holes[:_MAX_DRAWN],
                facecolors="black",
                # Edges of many holes would hide the holes, and hatching is slow.
                edgecolors="red" if few else "none",
                hatch="///" if few else None,
            )
        )
    if len(drawn) <= _MAX_LABELS and len(panel.shape) <= 2:
        for at in drawn:
            (left, top), _, (right, bottom), _ = corners(panel.boxes[at])
            axis.text(
                (left + right) / 2,
                (top + bottom) / 2,
                str(panel.owners[at])
                if panel.what == "rank"
                else str(known.index(panel.owners[at])),
                ha="center",
                va="center",
                fontsize=7,
            )
    _frame(axis, panel, down, across)
    _legend(figure, axis, panel, known, colour, scale, marks)
    if left := len(full) - len(drawn):
        _title(axis, f"{_titled(panel)} (the first {len(drawn):,}; {left:,} more)", pad=12)


def _frame(axis: Any, panel: Boxes, down: int, across: int | None) -> None:
    ends = [
        max([panel.shape[dim], *(box[dim] + size[dim] for box, size in panel.boxes)])
        for dim in range(len(panel.shape))
    ]
    if across is None:
        axis.set_xlim(0, max(ends[down], 1))
        axis.set_ylim(0, 1)
        axis.set_yticks([])
        axis.set_xlabel(f"dim {down}")
    else:
        axis.set_xlim(0, max(ends[across], 1))
        axis.set_ylim(max(ends[down], 1), 0)
        axis.set_xlabel(f"dim {across}")
        axis.set_ylabel(f"dim {down}")
    if len(panel.shape) > 2:
        axis.annotate(
            f"{counted(len(panel.shape), 'dim')}; the two with the most shards are drawn",
            (0, 1.0),
            xycoords="axes fraction",
            fontsize=7,
            va="bottom",
        )
    _title(axis, _titled(panel), pad=12)


def _titled(panel: Boxes) -> str:
    return f"{shortened(printable(panel.name))} {shortened(panel.about, 80)}"


def _legend(
    figure: Any,
    axis: Any,
    panel: Boxes,
    known: list[Any],
    colour: Any,
    scale: Any,
    marks: list[Any],
) -> None:
    import matplotlib
    from matplotlib.patches import Patch

    if scale is None:
        labels = [
            f"{panel.what} {owner}"
            if panel.what == "rank"
            else shortened(printable(str(owner)), 40)
            for owner in known
        ]
        if panel.what != "rank":
            labels = [f"{at}: {label}" for at, label in enumerate(labels)]
        marks = [
            Patch(color=colour[owner], label=label)
            for owner, label in zip(known, labels, strict=True)
        ] + marks
    else:
        numbers = panel.what == "rank"
        first, last = (known[0], known[-1]) if numbers else (0, len(known) - 1)
        norm = matplotlib.colors.Normalize(first, last)
        bar = figure.colorbar(
            matplotlib.cm.ScalarMappable(norm, scale), ax=axis, fraction=0.03, pad=0.01
        )
        bar.set_label(f"{panel.what}, of {len(known):,}")
    if marks:
        legend = axis.legend(
            handles=marks,
            fontsize=7,
            loc="upper left",
            bbox_to_anchor=(0, -0.14),
            ncols=6,
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _overlaps(panel: Boxes, drawn: list[int]) -> list[tuple[list[int], list[int]]]:
    """Returns the overlaps of drawn boxes."""
    from array import array

    from ... import _core

    if not drawn:
        return []
    offsets = array("q", (number for at in drawn for number in panel.boxes[at][0]))
    sizes = array("q", (number for at in drawn for number in panel.boxes[at][1]))
    boxes = _core.Boxes(len(panel.shape), offsets, sizes)
    overlapping = []
    for a, b in _core.overlaps(boxes, list(panel.shape), 500):
        (at, size), (other, length) = panel.boxes[drawn[a]], panel.boxes[drawn[b]]
        start = [max(pair) for pair in zip(at, other, strict=True)]
        ends = [
            min(at[dim] + size[dim], other[dim] + length[dim]) for dim in range(len(panel.shape))
        ]
        overlapping.append((start, [end - begin for begin, end in zip(start, ends, strict=True)]))
    return overlapping


def _draw_bars(axis: Any, panel: Bars) -> None:
    from matplotlib.ticker import FuncFormatter

    places = range(len(panel.values))
    marked = set(panel.marked)
    bars, line, mark = panel.names
    # Gaps between many bars would be narrower than a pixel.
    width = 0.8 if len(panel.values) <= 200 else 1.0
    axis.bar(places, panel.values, width=width, color="#4878a8", label=bars)
    if marked:
        axis.bar(
            sorted(marked),
            [panel.values[at] for at in sorted(marked)],
            width=max(width, len(panel.values) / 200),
            color="#c44e52",
            label=mark,
        )
    if panel.beside:
        axis.step(places, panel.beside, where="mid", color="black", linewidth=1.2, label=line)
    if panel.values:
        mean = sum(panel.values) / len(panel.values)
        axis.axhline(mean, color="grey", linestyle="--", linewidth=0.8, label="mean")
    axis.set_ylim(bottom=0)
    axis.set_xlim(-0.6, max(len(panel.values) - 0.4, 0.6))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(value)))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel(panel.what)
    _title(axis, shortened(printable(panel.title), 100))
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=4, frameon=False)
