"""Draws the scaling curves."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .scaling import Curve

# The lines differ by marker as well as by colour.
UPSTREAM = {"color": "#d1495b", "marker": "s", "label": "torch"}
OURS = {"color": "#00798c", "marker": "o", "label": "shardplan"}


def require_matplotlib() -> str | None:
    """Returns the error message if matplotlib is missing, else None."""
    if find_spec("matplotlib") is not None:
        return None
    return "--plot needs matplotlib:  pip install matplotlib  (or shardplan's extra, plot)"


def draw(curves: list[Curve], path: Path, machine: str) -> None:
    """Draws one panel for each curve, with both axes logarithmic."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]

    figure = Figure(figsize=(10, 7.4), layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    for panel, curve in zip(panels, curves, strict=True):
        for points, style in ((curve.upstream, UPSTREAM), (curve.ours, OURS)):
            sizes, seconds = zip(*points, strict=True)
            panel.plot(sizes, seconds, markersize=4, linewidth=1.6, **style)
        panel.set(xscale="log", yscale="log", title=curve.title, xlabel=curve.axis)
        panel.set_ylabel("seconds")
        panel.grid(True, which="major", color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.supxlabel(machine, fontsize=8, color="#666666")
    figure.savefig(path, dpi=150)
