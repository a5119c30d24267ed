r"""First dip: integrate the autocorrelation until its filtered form falls below zero.

F. Knoop, M. Scheffler, C. Carbogno, Phys. Rev. B 107, 224304 (2023); program FHI-vibes. The
cumulative integral kappa(t) is smoothed by a Savitzky-Golay filter of first order (a
running line) over one period 1/nu of the slowest relevant vibration, on its antisymmetric
extension to negative times; so is its derivative; the cut is where that first falls below
zero.

Two things differ from the program, and `vibes` reproduces it without them. The cut is
taken on the mean over components and replicas, because a cut chosen on noise is biased,
and the error comes from blocks or replicas, because the spread of three components covers
6 to 84 % of a claimed 95 % (``benchmarks/calibration.py``). And no dip
is nan, "not converged": the program's answer is kappa(0) = 0.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.signal import savgol_filter

from gkflux.correlate import Float

__all__ = ["Dip", "Vibes", "cumulative", "find_dip", "hann", "smooth", "vibes"]


@dataclass(frozen=True)
class Dip:
    """Where a mean autocorrelation was cut."""

    index: int
    """Lag of the cut; -1 where the filtered autocorrelation never falls below zero."""
    time: float
    """The same in fs, nan where there is no dip."""
    value: float
    """Filtered cumulative integral at the cut, nan where there is no dip."""
    curve: Float
    """Filtered cumulative integral, shape (lags,)."""
    slope: Float
    """Its filtered derivative, the filtered autocorrelation, shape (lags,)."""


@dataclass(frozen=True)
class Vibes:
    """What FHI-vibes computes, digit for digit."""

    kappa: Float
    """Each element at its own cut, shape (C, C)."""
    cut: Float
    """Cut of each element, fs, shape (C, C); 0 where no dip was found."""
    std: float
    """Spread of the diagonal elements, std(ddof=0) / sqrt(C)."""
    curves: Float
    """Filtered cumulative integrals, shape (lags, C, C)."""
    slopes: Float
    """Their filtered derivatives, shape (lags, C, C)."""


def cumulative(autocorrelation: Float, spacing: float) -> Float:
    r"""Integrate from zero to each lag by the trapezoidal rule.

    Args:
        autocorrelation: shape (lags, ...).
        spacing: between two lags, fs.

    Returns:
        same shape; entry 0 is exactly zero.
    """
    integral: Float = cumulative_trapezoid(autocorrelation, dx=spacing, axis=0, initial=0.0)
    return integral


def smooth(curve: Float, window: int, *, antisymmetric: bool = True) -> Float:
    """Filter by a running straight line over `window` samples, made odd, at least three.

    Args:
        curve: shape (lags, ...).
        window: samples.
        antisymmetric: continue to negative times as -curve, so that the start is not
            distorted.
    """
    width = max(3, window // 2 * 2 + 1)
    data = np.concatenate([-curve[::-1], curve]) if antisymmetric else curve
    width = min(width, len(data) - 1 + len(data) % 2)
    filtered: Float = savgol_filter(data, width, 1, axis=0)[-len(curve) :]
    return filtered


def find_dip(integral: Float, *, spacing: float, window: int) -> Dip:
    """Cut the mean cumulative integral at the first dip.

    Args:
        integral: mean over components and replicas of kappa(t), shape (lags,).
        spacing: between two lags, fs.
        window: of the filter, samples.
    """
    curve = smooth(integral, window)
    slope = _slope(curve, spacing, window)
    below = np.flatnonzero(slope < 0)
    if len(below) < 2:
        return Dip(-1, nan, nan, curve, slope)
    index = int(below[0])
    return Dip(index, index * spacing, float(curve[index]), curve, slope)


def vibes(integral: Float, *, spacing: float, window: int) -> Vibes:
    """Reproduce FHI-vibes: every element of the tensor cut at its own first dip.

    Args:
        integral: cumulative integral of the biased autocorrelation times the falling half
            of a Hann window, in W/(m K), shape (lags, C, C).
        spacing: between two lags, fs.
        window: of the filter, samples: the period of the slowest vibration.
    """
    curves = smooth(integral, window)
    slopes = _slope(curves, spacing, window)
    kappa = np.zeros(integral.shape[1:])
    cut = np.zeros_like(kappa)
    for a, b in np.ndindex(kappa.shape):
        below = np.flatnonzero(slopes[:, a, b] < 0)
        index = int(below[0]) if len(below) > 1 else 0
        kappa[a, b] = curves[index, a, b]
        cut[a, b] = index * spacing
    diagonal = np.diag(kappa)
    return Vibes(kappa, cut, float(diagonal.std() / np.sqrt(len(diagonal))), curves, slopes)


def hann(lags: int) -> Float:
    """Falling half of a symmetric Hann window of 2 `lags` points, as FHI-vibes tapers."""
    taper: Float = np.hanning(2 * lags)[lags:]
    return taper


def _slope(curves: Float, spacing: float, window: int) -> Float:
    if len(curves) < 2:
        return np.zeros_like(curves)
    slope: Float = np.gradient(curves, axis=0) / spacing
    return smooth(slope, window, antisymmetric=False)
