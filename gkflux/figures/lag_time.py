"""Against lag time: the autocorrelation of the heat flux, and its integral."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from gkflux.correlate import Float
from gkflux.estimators.estimate import quantile
from gkflux.estimators.first_dip import smooth
from gkflux.figures.canvas import (
    BAND,
    MUTED,
    ONE,
    THREE,
    TWO,
    Picture,
    axes_of,
    finish,
    legend,
    thin,
)
from gkflux.rounding import rounded

if TYPE_CHECKING:
    from gkflux.green_kubo import GreenKubo

__all__ = ["autocorrelation", "cumulative"]


def cumulative(result: "GreenKubo") -> Picture:
    """Draw kappa against the time up to which is integrated."""
    shown = _shown(result)
    time = result.curves["lag_time"][:shown]
    factor, unit = _unit(time[-1])
    figure, (axis,) = axes_of()
    raw = _trace(result.curves["kappa_cumulative"])[:shown]
    filtered = result.curves["kappa_cumulative_filtered"][:shown]
    _block_band(axis, result, time[-1], factor)
    t, r, f = thin(time * factor, raw, filtered)
    axis.plot(t, r, color=MUTED, lw=0.9, label="integral")
    axis.plot(t, f, color=ONE, label="filtered")
    _mark_cut(axis, result, factor)
    low, high = result.interval(0.95)
    axis.axhline(
        result.kappa,
        color=TWO,
        lw=1.2,
        label=f"κ = {rounded(result.kappa, result.kappa_std)}",
    )
    if np.isfinite(low):
        axis.axhspan(low, high, color=TWO, alpha=0.15, lw=0)
    axis.set_xlabel(f"time ({unit})")
    axis.set_ylabel("κ(t), W/(m K)")
    axis.set_xlim(0, time[-1] * factor)
    # The unfiltered integral of a solid swings by many times kappa and would hide the rest.
    peak = max(float(f.max()), high if np.isfinite(high) else result.kappa)
    axis.set_ylim(min(0.0, float(f.min())) - 0.35 * peak, 1.7 * peak)
    legend(figure, axis)
    caption = (
        "Integral of the autocorrelation up to each time, mean of the components, as it is "
        "and filtered; the band is the 95 % interval of the blocks, the horizontal line "
        "the value quoted."
    )
    if result.settings["currents"] > 1:
        caption += (
            " The integral is that of the heat flux alone, without the mass currents."
        )
    return finish("cumulative", "Cumulative thermal conductivity", caption, figure)


def _block_band(axis: Axes, result: "GreenKubo", until: float, factor: float) -> None:
    """Shade the interval of the mean of the blocks, filtered as the whole is."""
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
    t, low, high = thin(time[known] * factor, mean - half, mean + half)
    axis.fill_between(t, low, high, color=BAND, lw=0, label="95 % of blocks")


def autocorrelation(result: "GreenKubo") -> Picture:
    """Draw the autocorrelation, linear above and logarithmic below."""
    shown = _shown(result)
    time = result.curves["lag_time"][:shown]
    factor, unit = _unit(time[-1])
    whole = _trace(result.curves["autocorrelation"])
    curve = whole[:shown] / whole[0]
    filtered = result.curves["autocorrelation_filtered"][:shown] / whole[0]
    figure, (top, bottom) = axes_of(2, 4.0)
    t, c, f = thin(time * factor, curve, filtered)
    top.plot(t, c, color=ONE, lw=0.9, label="⟨J(t) J(0)⟩ / ⟨J²⟩")
    top.plot(t, f, color=TWO, label="filtered")
    top.axhline(0, color=MUTED, lw=0.8)
    bottom.semilogy(t, np.abs(c), color=ONE, lw=0.9)
    bottom.semilogy(t, np.abs(f), color=TWO)
    floor = min(float(np.quantile(np.abs(c), 0.02)), float(np.quantile(np.abs(f), 0.2)))
    bottom.set_ylim(bottom=max(1e-6, floor / 3), top=2)
    for axis in (top, bottom):
        _mark_cut(axis, result, factor)
    legend(figure, top)
    top.set_ylabel("linear")
    bottom.set_ylabel("magnitude")
    bottom.set_xlabel(f"time ({unit})")
    bottom.set_xlim(0, time[-1] * factor)
    caption = (
        "Normalised autocorrelation of the heat flux, linear above and logarithmic "
        "below; where the filtered curve first falls below zero the integral is cut."
    )
    return finish("autocorrelation", "Heat-flux autocorrelation", caption, figure)


def _shown(result: "GreenKubo") -> int:
    """Lags that the plots of the autocorrelation show: five times the cut."""
    time = result.curves["lag_time"]
    cut = float(result.settings["cut_fs"])
    until = 5 * cut if np.isfinite(cut) and cut > 0 else time[-1]
    filtered = 3 * float(result.settings["filter_fs"])
    return int(min(len(time), max(20, np.searchsorted(time, max(until, filtered)))))


def _unit(fs: float) -> tuple[float, str]:
    """Factor and unit for a time axis that reaches to `fs`."""
    return (1e-3, "ps") if fs >= 2000 else (1.0, "fs")


def _trace(curve: Float) -> Float:
    """Mean of the diagonal at each lag."""
    trace: Float = np.einsum("kaa->k", curve) / curve.shape[1]
    return trace


def _mark_cut(axis: Axes, result: "GreenKubo", factor: float) -> None:
    cut = float(result.settings["cut_fs"])
    if np.isfinite(cut):
        axis.axvline(cut * factor, color=THREE, lw=1, ls="--", label="cut (first dip)")
