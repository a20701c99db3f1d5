"""Pictures of boxes and of bytes: legible at 8 ranks and at 1,024."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ..failures import INSTALL, CommandError
from .wording import bytes_text, counted, printable, shortened

# Up to this many owners each has a colour that can be told from the others', and a label.
_FEW = 12
_MAX_LABELS = 64
_MAX_DRAWN = 50_000
_MAX_HATCHED = 1_000
_FORMATS = (".png", ".svg")


@dataclass
class Boxes:
    """The boxes of one tensor, coloured by who owns them.

    name: of the tensor
    about: what is said after it
    owners: a box: rank, or name of a file
    what: what owners are
    holes: boxes that nobody has
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
    """A number a rank or file.

    marked: those that stand out
    beside: another number of each, drawn as a line
    names: of the bars, the line and what is marked
    """

    title: str
    values: Sequence[int]
    marked: Sequence[int] = ()
    what: str = "rank"
    beside: Sequence[int] = ()
    names: Sequence[str] = field(default=("bytes", "", "damaged"))


def draw(file: str, panels: Sequence[Boxes | Bars]) -> None:
    """Writes one picture. ``CommandError`` if matplotlib is missing, or the file not writable."""
    if not file.endswith(_FORMATS):
        raise CommandError(f"a picture is a .png or an .svg, not {file}")
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
        # A character that the font lacks is drawn as a box; that is no news to the user.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figure.savefig(file)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error}") from error


def _title(axis: Any, text: str, **style: Any) -> None:
    """A title of which nothing is read as mathematics, or as a command."""
    axis.set_title(printable(text), fontsize=10, parse_math=False, **style)


def _colours(owners: Sequence[Any]) -> tuple[list[Any], dict[Any, Any], Any]:
    """A colour an owner: told apart where few, a scale where many."""
    import matplotlib

    known = sorted(set(owners), key=lambda owner: (isinstance(owner, str), owner))
    many = len(known) > _FEW
    scale = matplotlib.colormaps["viridis" if many else "tab20"]
    last = max(len(known) - 1, 1)
    of = {owner: scale(at / last if many else at % 20) for at, owner in enumerate(known)}
    return known, of, scale if many else None


def _two_dims(panel: Boxes) -> tuple[int, int | None]:
    """The dims to draw: the two with the most shards, the first of them downwards."""
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
        # One array: of lists, matplotlib makes a path each by itself.
        found: Any = numpy.array([*map(corners, boxes)]).reshape(-1, 4, 2)
        return PolyCollection(found, **style)

    def corners(box: tuple[Sequence[int], Sequence[int]]) -> list[tuple[float, float]]:
        offsets, sizes = box
        top, bottom = float(offsets[down]), float(offsets[down] + sizes[down])
        if across is None:
            return [(top, 0.0), (bottom, 0.0), (bottom, 1.0), (top, 1.0)]
        left, right = float(offsets[across]), float(offsets[across] + sizes[across])
        return [(left, top), (right, top), (right, bottom), (left, bottom)]

    known, colour, scale = _colours(panel.owners)
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
    if torn := _overlaps(panel, drawn):
        marks.append(Patch(facecolor="none", edgecolor="red", hatch="xxx", label="overlap"))
        axis.add_collection(polygons(torn, facecolors="none", edgecolors="red", hatch="xxx"))
    if panel.holes:
        marks.append(Patch(facecolor="black", edgecolor="red", hatch="///", label="hole"))
        few = len(panel.holes) <= _MAX_HATCHED
        axis.add_collection(
            polygons(
                panel.holes[:_MAX_DRAWN],
                facecolors="black",
                # Of many, edges would hide what they surround, and hatching takes most of the time.
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
            f"{counted(len(panel.shape), 'dim')}: those with the most shards are drawn",
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
    """Where drawn boxes meet."""
    from array import array

    from ... import _core

    if not drawn:
        return []
    offsets = array("q", (number for at in drawn for number in panel.boxes[at][0]))
    sizes = array("q", (number for at in drawn for number in panel.boxes[at][1]))
    boxes = _core.Boxes(len(panel.shape), offsets, sizes)
    met = []
    for a, b in _core.overlaps(boxes, list(panel.shape), 500):
        (at, size), (other, length) = panel.boxes[drawn[a]], panel.boxes[drawn[b]]
        start = [max(pair) for pair in zip(at, other, strict=True)]
        ends = [
            min(at[dim] + size[dim], other[dim] + length[dim]) for dim in range(len(panel.shape))
        ]
        met.append((start, [end - begin for begin, end in zip(start, ends, strict=True)]))
    return met


def _draw_bars(axis: Any, panel: Bars) -> None:
    from matplotlib.ticker import FuncFormatter

    places = range(len(panel.values))
    marked = set(panel.marked)
    bars, line, mark = panel.names
    # Bars of less than a pixel each would flicker: beyond some hundred they touch.
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
