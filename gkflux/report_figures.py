"""The figures of the report: SVG with real text, whose colours are CSS variables.

Each figure is drawn with sentinel colours, which are then replaced by ``var(--name)``, so
that one drawing serves a light and a dark page; text stays text, so it scales, is
searched and is read aloud, and every figure says in one sentence what it shows.
"""

import io
import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gkflux.correlate import Float
from gkflux.estimators.estimate import Estimate, quantile
from gkflux.estimators.first_dip import smooth
from gkflux.rounding import rounded

if TYPE_CHECKING:
    from gkflux.green_kubo import GreenKubo

__all__ = ["Picture", "pictures"]

INK, MUTED, GRID = "#010203", "#010204", "#010205"
ONE, TWO, THREE, BAND = "#010206", "#010207", "#010208", "#010209"
PAPER = "#01020a"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    ONE: "one",
    TWO: "two",
    THREE: "three",
    BAND: "band",
    PAPER: "paper",
}
_STYLE: dict[Any, Any] = {
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
_SIZE = (4.8, 3.3)
_POINTS = 500


@dataclass(frozen=True)
class Picture:
    """One figure of the report."""

    title: str
    caption: str
    """What it shows and how to read it."""
    svg: str


def pictures(result: "GreenKubo") -> list[Picture]:
    """Draw every figure that the data allow."""
    makers = (_cumulative, _autocorrelation, _spectrum, _cutoffs, _decimations, _scatter)
    with mpl.rc_context(_STYLE):
        return [picture for maker in makers if (picture := maker(result)) is not None]


def _finish(name: str, title: str, caption: str, figure: Figure) -> Picture:
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


def _axes(rows: int = 1, height: float = _SIZE[1]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, list(axes[:, 0])


def _legend(figure: Figure, axis: Axes) -> None:
    """Put the legend above the axes, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, columnspacing=1.2)


def _time(fs: float) -> tuple[float, str]:
    """Factor and unit for a time axis that reaches to `fs`."""
    return (1e-3, "ps") if fs >= 2000 else (1.0, "fs")


def _thin(*curves: Float) -> list[Float]:
    stride = max(1, len(curves[0]) // _POINTS)
    return [curve[::stride] for curve in curves]


def _shown(result: "GreenKubo") -> int:
    """Lags that the plots of the autocorrelation show: five times the cut."""
    time = result.curves["lag_time"]
    cut = float(result.settings["cut_fs"])
    until = 5 * cut if np.isfinite(cut) and cut > 0 else time[-1]
    filtered = 3 * float(result.settings["filter_fs"])
    return int(min(len(time), max(20, np.searchsorted(time, max(until, filtered)))))


def _trace(curve: Float) -> Float:
    trace: Float = np.einsum("kaa->k", curve) / curve.shape[1]
    return trace


def _mark_cut(axis: Axes, result: "GreenKubo", factor: float) -> None:
    cut = float(result.settings["cut_fs"])
    if np.isfinite(cut):
        axis.axvline(cut * factor, color=THREE, lw=1, ls="--", label="cut (first dip)")


def _cumulative(result: "GreenKubo") -> Picture:
    shown = _shown(result)
    time = result.curves["lag_time"][:shown]
    factor, unit = _time(time[-1])
    figure, (axis,) = _axes()
    raw = _trace(result.curves["kappa_cumulative"])[:shown]
    filtered = result.curves["kappa_cumulative_filtered"][:shown]
    _block_band(axis, result, time[-1], factor)
    t, r, f = _thin(time * factor, raw, filtered)
    axis.plot(t, r, color=MUTED, lw=0.9, label="integral")
    axis.plot(t, f, color=ONE, label="filtered")
    _mark_cut(axis, result, factor)
    low, high = result.interval(0.95)
    axis.axhline(result.kappa, color=TWO, lw=1.2, label=f"κ = {_number(result)}")
    if np.isfinite(low):
        axis.axhspan(low, high, color=TWO, alpha=0.15, lw=0)
    axis.set_xlabel(f"time ({unit})")
    axis.set_ylabel("κ(t), W/(m K)")
    axis.set_xlim(0, time[-1] * factor)
    # The unfiltered integral of a solid swings by many times kappa and would hide the rest.
    peak = max(float(f.max()), high if np.isfinite(high) else result.kappa)
    axis.set_ylim(min(0.0, float(f.min())) - 0.35 * peak, 1.7 * peak)
    _legend(figure, axis)
    caption = (
        "Integral of the autocorrelation up to each time, mean of the components, as it is "
        "and filtered; the "
        "band is the 95 % interval of the blocks, the horizontal line the value quoted."
    )
    if result.settings["currents"] > 1:
        caption += (
            " The integral is that of the heat flux alone, without the mass currents."
        )
    return _finish("cumulative", "Cumulative thermal conductivity", caption, figure)


def _block_band(axis: Axes, result: "GreenKubo", until: float, factor: float) -> None:
    blocks = result.curves["block_curves"]
    if len(blocks) < 3:
        return
    lags = result.curves["lag_time"]
    stride = float(result.settings["block_curve_stride"]) * (lags[1] - lags[0])
    time = np.arange(blocks.shape[1]) * stride
    known = (time <= until) & np.isfinite(blocks).all(axis=0)
    window = int(float(result.settings["filter_fs"]) / stride)
    curves = np.array([smooth(block, window) for block in blocks[:, known]])
    mean = curves.mean(axis=0)
    half = curves.std(axis=0, ddof=1) / np.sqrt(len(blocks))
    half *= quantile(0.95, len(blocks) - 1)
    t, low, high = _thin(time[known] * factor, mean - half, mean + half)
    axis.fill_between(t, low, high, color=BAND, lw=0, label="95 % of blocks")


def _autocorrelation(result: "GreenKubo") -> Picture:
    shown = _shown(result)
    time = result.curves["lag_time"][:shown]
    factor, unit = _time(time[-1])
    curve = _trace(result.curves["autocorrelation"])
    curve = curve[:shown] / curve[0]
    filtered = result.curves["autocorrelation_filtered"][:shown]
    filtered = filtered / _trace(result.curves["autocorrelation"])[0]
    figure, (top, bottom) = _axes(2, 4.0)
    t, c, f = _thin(time * factor, curve, filtered)
    top.plot(t, c, color=ONE, lw=0.9, label="⟨J(t) J(0)⟩ / ⟨J²⟩")
    top.plot(t, f, color=TWO, label="filtered")
    top.axhline(0, color=MUTED, lw=0.8)
    bottom.semilogy(t, np.abs(c), color=ONE, lw=0.9)
    bottom.semilogy(t, np.abs(f), color=TWO)
    floor = min(float(np.quantile(np.abs(c), 0.02)), float(np.quantile(np.abs(f), 0.2)))
    bottom.set_ylim(bottom=max(1e-6, floor / 3), top=2)
    for axis in (top, bottom):
        _mark_cut(axis, result, factor)
    _legend(figure, top)
    top.set_ylabel("linear")
    bottom.set_ylabel("magnitude")
    bottom.set_xlabel(f"time ({unit})")
    bottom.set_xlim(0, time[-1] * factor)
    caption = (
        "Normalised autocorrelation of the heat flux, linear above and logarithmic "
        "below; where the filtered curve first falls below zero the integral is cut."
    )
    return _finish("autocorrelation", "Heat-flux autocorrelation", caption, figure)


def _spectrum(result: "GreenKubo") -> Picture:
    figure, (axis,) = _axes()
    frequency = result.curves["survey_frequency"]
    density = result.curves["survey_spectrum"]
    star = float(result.settings["fstar_THz"])
    nyquist = float(frequency[-1])
    shown = (frequency > 0) & (frequency <= min(nyquist, 1.8 * star))
    width = max(1, int(shown.sum()) // 300)
    count = int(shown.sum()) // width * width
    f = frequency[shown][:count].reshape(-1, width).mean(axis=1)
    d = density[shown][:count].reshape(-1, width).mean(axis=1)
    axis.semilogy(f, d, color=MUTED, lw=0.8, label="measured")
    t, s = _thin(result.curves["frequency"], result.curves["spectrum_fit"])
    axis.semilogy(t, s, color=ONE, label="cepstral fit")
    low, high = result.interval(0.95)
    error = None if not low > 0 else [[result.kappa - low], [high - result.kappa]]
    axis.errorbar(
        [0], [result.kappa], error, fmt="o", color=TWO, ms=5, capsize=3, label="κ"
    )
    axis.axvline(star, color=THREE, lw=1, ls="--", label=f"f* = {star:.3g} THz")
    if nyquist <= 1.8 * star:
        axis.axvline(nyquist, color=MUTED, lw=1, ls=":")
    label = f"Nyquist {nyquist:.3g} THz"
    axis.set_title(label, fontsize=9, loc="right", color=MUTED)
    top = float(max(d.max(), s.max()))
    axis.set_ylim(max(float(d.min()) / 2, top * 1e-7), top * 3)
    axis.set_xlim(-0.02 * f[-1], max(f[-1], 1.02 * star))
    axis.set_xlabel("frequency (THz)")
    axis.set_ylabel("density, W/(m K)")
    _legend(figure, axis)
    caption = (
        "Spectral density of the heat flux in units of κ: its limit at zero frequency is "
        "κ. The fit covers the series decimated to f*, whose block means damp it there."
    )
    return _finish("spectrum", "Flux spectrum", caption, figure)


def _cutoffs(result: "GreenKubo") -> Picture:
    figure, (axis,) = _axes()
    cutoffs = result.curves["cutoff"]
    kappas = result.curves["kappa_of_cutoff"]
    stds = result.curves["kappa_of_cutoff_std"]
    _banded(axis, cutoffs, kappas, stds)
    axis.axvline(
        float(result.settings["K_AIC"]), color=MUTED, lw=1, ls=":", label="K of AIC"
    )
    axis.axvline(float(result.settings["K"]), color=THREE, lw=1, ls="--", label="K used")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_xlabel("cepstral coefficients K")
    axis.set_ylabel("κ, W/(m K)")
    _fit_range(axis, kappas[len(kappas) // 8 :], stds[len(stds) // 8 :])
    _legend(figure, axis)
    caption = (
        "κ against the number of cepstral coefficients, with its 95 % interval. Left of "
        "the plateau it is biased, right of it only noisier."
    )
    return _finish("cutoffs", "Choice of the cepstral cut-off", caption, figure)


def _decimations(result: "GreenKubo") -> Picture | None:
    stars = result.curves["fstar"]
    known = np.isfinite(result.curves["kappa_of_fstar"])
    if np.count_nonzero(known) < 2:
        return None
    figure, (axis,) = _axes()
    half = 1.96 * result.curves["kappa_of_fstar_std"][known]
    kappas = result.curves["kappa_of_fstar"][known]
    axis.errorbar(stars[known], kappas, half, fmt="o-", color=ONE, lw=1, ms=4, capsize=3)
    star = float(result.settings["fstar_THz"])
    axis.axvline(star, color=THREE, lw=1, ls="--", label=f"f* used, {star:.3g} THz")
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axis.set_xlabel("f* (THz)")
    axis.set_ylabel("κ, W/(m K)")
    _legend(figure, axis)
    caption = (
        "κ against the frequency to which the series is decimated, with its 95 % "
        "interval: it should not depend on it."
    )
    return _finish("decimations", "Choice of f*", caption, figure)


def _scatter(result: "GreenKubo") -> Picture:
    rows = _rows(result)
    figure, (axis,) = _axes(height=1.2 + 0.34 * (len(rows) + 1))
    for y, (_, one) in enumerate(rows):
        half = one.half_width()
        error = [half] if np.isfinite(half) else None
        axis.errorbar([one.kappa], [y], xerr=error, fmt="o", color=ONE, ms=5, capsize=3)
    low, high = result.interval(0.95)
    axis.axvline(result.kappa, color=TWO, lw=1.2)
    if np.isfinite(low):
        axis.axvspan(low, high, color=TWO, alpha=0.15, lw=0)
    generator = np.random.default_rng(0)
    labels = [name for name, _ in rows]
    for values, name in ((result.blocks, "each block"), (result.replicas, "each replica")):
        if len(values) < 2:
            continue
        y = len(labels)
        jitter = generator.uniform(-0.2, 0.2, len(values))
        axis.plot(values, y + jitter, ".", color=THREE, ms=5, alpha=0.8)
        labels.append(name)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlabel("κ, W/(m K)")
    axis.grid(axis="y", visible=False)
    caption = (
        "Every estimator with its 95 % interval, and the values of single blocks and "
        "replicas; the line is the value quoted, the shade its 95 % interval."
    )
    return _finish("scatter", "Methods, blocks and replicas", caption, figure)


def _rows(result: "GreenKubo") -> list[tuple[str, Estimate]]:
    return [
        (name.replace("_", " "), one)
        for name, one in result.methods.items()
        if np.isfinite(one.kappa)
    ]


def _banded(axis: Axes, x: Float, y: Float, std: Float) -> None:
    axis.fill_between(x, y - 1.96 * std, y + 1.96 * std, color=BAND, lw=0)
    axis.plot(x, y, color=ONE)


def _fit_range(axis: Axes, y: Float, std: Float) -> None:
    low, high = float((y - 2.2 * std).min()), float((y + 2.2 * std).max())
    axis.set_ylim(max(0.0, low) if low < high else None, high)


def _number(result: "GreenKubo") -> str:
    return rounded(result.kappa, result.kappa_std)
