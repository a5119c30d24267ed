"""Against frequency: the spectrum, and the choices of the cepstral analysis."""

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gkflux.correlate import Float
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

if TYPE_CHECKING:
    from gkflux.green_kubo import GreenKubo

__all__ = ["cutoffs", "decimations", "spectrum"]


def spectrum(result: "GreenKubo") -> Picture:
    """Draw the spectral density of the flux, and the fit whose limit is kappa."""
    figure, (axis,) = axes_of()
    star = float(result.settings["fstar_THz"])
    nyquist = float(result.curves["survey_frequency"][-1])
    f, d = _averaged(result, min(nyquist, 1.8 * star))
    axis.semilogy(f, d, color=MUTED, lw=0.8, label="measured")
    t, s = thin(result.curves["frequency"], result.curves["spectrum_fit"])
    axis.semilogy(t, s, color=ONE, label="cepstral fit")
    low, high = result.interval(0.95)
    error = None if not low > 0 else [[result.kappa - low], [high - result.kappa]]
    axis.errorbar(
        [0], [result.kappa], error, fmt="o", color=TWO, ms=5, capsize=3, label="κ"
    )
    axis.axvline(star, color=THREE, lw=1, ls="--", label=f"f* = {star:.3g} THz")
    if nyquist <= 1.8 * star:
        axis.axvline(nyquist, color=MUTED, lw=1, ls=":")
    axis.set_title(f"Nyquist {nyquist:.3g} THz", fontsize=9, loc="right", color=MUTED)
    top = float(max(d.max(), s.max()))
    axis.set_ylim(max(float(d.min()) / 2, top * 1e-7), top * 3)
    axis.set_xlim(-0.02 * f[-1], max(f[-1], 1.02 * star))
    axis.set_xlabel("frequency (THz)")
    axis.set_ylabel("density, W/(m K)")
    legend(figure, axis)
    caption = (
        "Spectral density of the heat flux in units of κ: its limit at zero frequency is "
        "κ. The fit covers the series decimated to f*, whose block means damp it there."
    )
    return finish("spectrum", "Flux spectrum", caption, figure)


def _averaged(result: "GreenKubo", until: float) -> tuple[Float, Float]:
    """Measured spectrum up to a frequency, THz: means of neighbours, about 300 of them."""
    frequency, density = (result.curves[f"survey_{n}"] for n in ("frequency", "spectrum"))
    shown = (frequency > 0) & (frequency <= until)
    width = max(1, int(shown.sum()) // 300)
    count = int(shown.sum()) // width * width
    f = frequency[shown][:count].reshape(-1, width).mean(axis=1)
    d = density[shown][:count].reshape(-1, width).mean(axis=1)
    return f, d


def cutoffs(result: "GreenKubo") -> Picture:
    """Draw kappa against the number of cepstral coefficients."""
    figure, (axis,) = axes_of()
    cutoffs = result.curves["cutoff"]
    kappas = result.curves["kappa_of_cutoff"]
    stds = result.curves["kappa_of_cutoff_std"]
    _banded(axis, cutoffs, kappas, stds)
    best, used = float(result.settings["K_AIC"]), float(result.settings["K"])
    axis.axvline(best, color=MUTED, lw=1, ls=":", label="K of AIC")
    axis.axvline(used, color=THREE, lw=1, ls="--", label="K used")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_xlabel("cepstral coefficients K")
    axis.set_ylabel("κ, W/(m K)")
    _fit_range(axis, kappas[len(kappas) // 8 :], stds[len(stds) // 8 :])
    legend(figure, axis)
    caption = (
        "κ against the number of cepstral coefficients, with its 95 % interval. Left of "
        "the plateau it is biased, right of it only noisier."
    )
    return finish("cutoffs", "Choice of the cepstral cut-off", caption, figure)


def decimations(result: "GreenKubo") -> Picture | None:
    """Draw kappa against f*, where there is more than one."""
    stars = result.curves["fstar"]
    known = np.isfinite(result.curves["kappa_of_fstar"])
    if np.count_nonzero(known) < 2:
        return None
    figure, (axis,) = axes_of()
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
    legend(figure, axis)
    caption = (
        "κ against the frequency to which the series is decimated, with its 95 % "
        "interval: it should not depend on it."
    )
    return finish("decimations", "Choice of f*", caption, figure)


def _banded(axis: Axes, x: Float, y: Float, std: Float) -> None:
    """Draw a curve and its 95 % interval."""
    axis.fill_between(x, y - 1.96 * std, y + 1.96 * std, color=BAND, lw=0)
    axis.plot(x, y, color=ONE)


def _fit_range(axis: Axes, y: Float, std: Float) -> None:
    """Show this part of a curve and of its interval in full."""
    low, high = float((y - 2.2 * std).min()), float((y + 2.2 * std).max())
    axis.set_ylim(max(0.0, low) if low < high else None, high)
