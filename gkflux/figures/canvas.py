"""What the figures of the report share: colours, style, axes; and how one becomes SVG.

Each figure is drawn with sentinel colours, which are then replaced by ``var(--name)``, so
that one drawing serves a light and a dark page; text stays text, so it scales, is
searched and is read aloud, and every figure says in one sentence what it shows.
"""

import io
import re
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gkflux.correlate import Float

__all__ = [
    "BAND",
    "MUTED",
    "ONE",
    "STYLE",
    "THREE",
    "TWO",
    "Picture",
    "axes_of",
    "finish",
    "legend",
    "thin",
]

INK, MUTED, GRID = "#010203", "#010204", "#010205"
ONE, TWO, THREE, BAND = "#010206", "#010207", "#010208", "#010209"
PAPER = "#01020a"
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper",
    ONE: "one", TWO: "two", THREE: "three", BAND: "band",
}  # fmt: skip
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
}
"""Of matplotlib, while figures are drawn."""
_SIZE = (4.8, 3.3)
_POINTS = 500


@dataclass(frozen=True)
class Picture:
    """One figure of the report."""

    title: str
    caption: str
    """What it shows and how to read it."""
    svg: str


def axes_of(rows: int = 1, height: float = _SIZE[1]) -> tuple[Figure, list[Axes]]:
    """Return a figure of this height in inches, and axes below each other in it."""
    figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, list(axes[:, 0])


def legend(figure: Figure, axis: Axes) -> None:
    """Put the legend above the axes, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, columnspacing=1.2)


def thin(*curves: Float) -> list[Float]:
    """Leave out points that no eye would miss, the same ones of each curve."""
    stride = max(1, len(curves[0]) // _POINTS)
    return [curve[::stride] for curve in curves]


def finish(name: str, title: str, caption: str, figure: Figure) -> Picture:
    """Turn a drawing into SVG of a page: colours are its variables, identifiers unique.

    Args:
        name: what the identifiers begin with.
        title: of the figure.
        caption: what it shows and how to read it.
        figure: drawn in the colours of this module.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r'id="(?!#)', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    label = f'role="img" aria-label="{escape(title + ": " + caption)}"'
    text = text.replace("<svg", f"<svg {label}", 1)
    return Picture(title, caption, text)
