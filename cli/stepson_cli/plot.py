"""A small line plot for the terminal, in braille dots.

A character cell is a grid of 2 x 4 dots; the bit of each dot in the Unicode block U+2800
is fixed by the standard (dots 1-3, 7 on the left, 4-6, 8 on the right). Layers are drawn
one above the other: a cell that the curve touches is the curve's, so a band never hides
it. Where the terminal cannot show braille the raster is drawn with one ASCII character a
cell.

=========  ========================================================
layer      meaning
=========  ========================================================
curve      y against x
band       the area between two curves, every second dot
mark       a vertical line, where something was cut or decided
=========  ========================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, isfinite, log10
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Band", "plot"]

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
STYLES = ("band", "mark", "curve")  # from the lowest layer to the highest
ASCII = {"band": ".", "mark": "|", "curve": "*"}


@dataclass(frozen=True)
class Band:
    """An area: ``low`` and ``high`` at each x of the curve."""

    low: Sequence[float] | Array
    high: Sequence[float] | Array


@dataclass
class _Canvas:
    """Dots of each layer: shape (4 rows, 2 columns), row 0 at the top."""

    columns: int
    rows: int
    layers: dict[str, npt.NDArray[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        shape = (4 * self.rows, 2 * self.columns)
        self.layers = {style: np.zeros(shape, dtype=bool) for style in STYLES}

    def cells(self, style: str) -> npt.NDArray[np.int64]:
        """Braille bits of a layer, shape (rows, columns)."""
        dots = self.layers[style].reshape(self.rows, 4, self.columns, 2)
        bits: npt.NDArray[np.int64] = np.einsum("rdcs,ds->rc", dots.astype(np.int64), DOTS)
        return bits


def plot(
    x: Sequence[float] | Array,
    y: Sequence[float] | Array,
    *,
    band: Band | None = None,
    mark: float | None = None,
    width: int = 72,
    height: int = 10,
    x_label: str = "",
    y_label: str = "",
    unicode: bool = True,
) -> "Text":
    """Draw y against x as text.

    Args:
        x: shape (n,), increasing; points that are not finite are left out.
        y: shape (n,).
        band: an area behind the curve, such as its error.
        mark: x of a vertical line.
        width: columns of the whole drawing, labels included; at least 24.
        height: rows of the dots; the axis and its labels take two more.
        x_label: under the axis, at its right end.
        y_label: above the axis.
        unicode: braille dots; else ASCII.
    """
    xs, ys, low, high = _columns(x, y, band)
    if len(xs) < 2:
        return _text([("nothing to draw: fewer than two points", "quiet")])
    span = _span(np.concatenate([ys, low, high]))
    labels = _labels(span, height)
    gutter = max(map(len, labels))
    canvas = _Canvas(max(width, 24) - gutter - 2, height)
    _draw(canvas, (xs, ys, low, high), span, mark)
    lines = [(f"{y_label}\n", "quiet")] if y_label else []
    for row in range(height):
        edge = "┤" if labels[row].strip() else "│"
        lines.append((f"{labels[row]:>{gutter}} {edge if unicode else '|'}", "quiet"))
        lines += _row(canvas, row, unicode)
        lines.append(("\n", ""))
    return _text(lines + _axis(xs, gutter, canvas.columns, x_label, unicode))


def _columns(
    x: Sequence[float] | Array, y: Sequence[float] | Array, band: Band | None
) -> tuple[Array, Array, Array, Array]:
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    low = ys if band is None else np.asarray(band.low, dtype=float)
    high = ys if band is None else np.asarray(band.high, dtype=float)
    sound = np.isfinite(xs) & np.isfinite(ys) & np.isfinite(low) & np.isfinite(high)
    return xs[sound], ys[sound], low[sound], high[sound]


def _span(values: Array) -> tuple[float, float]:
    """The range of the ordinate: holds zero where zero is near, and is never empty."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and low < 0.5 * high:
        low = 0.0
    if high < 0 and high > 0.5 * low:
        high = 0.0
    if high == low:
        margin = abs(high) or 1.0
        return low - 0.5 * margin, high + 0.5 * margin
    return low, high


def _draw(
    canvas: _Canvas,
    data: tuple[Array, Array, Array, Array],
    span: tuple[float, float],
    mark: float | None,
) -> None:
    xs = data[0]
    rows, columns = canvas.layers["curve"].shape
    at = np.linspace(xs[0], xs[-1], columns)
    scale = (rows - 1) / (span[1] - span[0])

    def place(values: Array) -> Places:
        heights = (span[1] - np.interp(at, xs, values)) * scale
        dots: Places = np.rint(heights).astype(np.int64).clip(0, rows - 1)
        return dots

    row = np.arange(rows)[:, None]
    curve, low, high = place(data[1]), place(data[2]), place(data[3])
    top, bottom = _joined(curve)
    canvas.layers["curve"][:] = (row >= top) & (row <= bottom)
    chequered = (row + np.arange(columns)) % 2 == 0
    canvas.layers["band"][:] = (row >= high) & (row <= low) & (low > high) & chequered
    if mark is not None and xs[0] <= mark <= xs[-1]:
        column = round((mark - xs[0]) / (xs[-1] - xs[0]) * (columns - 1))
        canvas.layers["mark"][::2, column] = True


def _joined(curve: Places) -> tuple[Places, Places]:
    """First and last dot of each column, such that steep curves have no gaps.

    A column begins one dot beyond the value of the column before, so that slopes stay thin.
    """
    before = np.concatenate([curve[:1], curve[:-1]])
    top = np.where(before < curve, before + 1, curve)
    bottom = np.where(before > curve, before - 1, curve)
    return top, bottom


def _row(canvas: _Canvas, row: int, unicode: bool) -> list[tuple[str, str]]:
    bits = {style: canvas.cells(style)[row] for style in STYLES}
    parts: list[tuple[str, str]] = []
    for column in range(canvas.columns):
        style = next((s for s in reversed(STYLES) if bits[s][column]), "")
        braille = chr(0x2800 + int(bits[style][column])) if style else " "
        parts.append((braille if unicode or not style else ASCII[style], style))
    return parts


def _labels(span: tuple[float, float], height: int) -> list[str]:
    """Label the top dot, the bottom dot and the middle of a row between them."""
    step = (span[1] - span[0]) / height
    decimals = max(0, 1 - floor(log10(span[1] - span[0])))
    middle = height // 2
    values = {middle: span[1] - (middle + 0.5) * step, 0: span[1], height - 1: span[0]}
    return [f"{values[row]:.{decimals}f}" if row in values else "" for row in range(height)]


def _axis(
    xs: Array, gutter: int, columns: int, label: str, unicode: bool
) -> list[tuple[str, str]]:
    line = ("└" + "─" * columns) if unicode else "+" + "-" * columns
    left, right = _number(float(xs[0])), f"{_number(float(xs[-1]))} {label}".rstrip()
    gap = max(1, columns + 1 - len(left) - len(right))
    text = f"{'':{gutter}} {line}\n{'':{gutter}} {left}{'':{gap}}{right}"
    return [(text, "quiet")]


def _number(value: float) -> str:
    return f"{value:.4g}" if isfinite(value) else "–"


def _text(parts: list[tuple[str, str]]) -> "Text":
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="crop")
