"""What the second pass of a reduction is to do: the caller's wishes, and what the data say.

Correlation time, decimation f*, segment length, lag window, filter and blocks are all
chosen from the spectrum of the first pass, never from the result, so that choosing does
not bias it. Where there are data enough, choices are rounded to coarse grids: so they stay
the same while a trajectory grows, and what was accumulated stays valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.estimators.cepstral import Cepstrum, cepstrum
from gkflux.spectrum import Spectrum, segment_length

__all__ = ["Plan", "Settings", "correlation_time", "plan", "smoothed"]

NEAR = 0.8
"""How near to its limit the spectrum must be to count as that; see `correlation_time`."""
MIN_WINDOW = 512
"""Lags kept at least, of data that are long enough: shorter windows save nothing."""
MAX_WINDOW = 65_536
"""Lags kept at most."""
MAX_BLOCKS = 64
"""Blocks of all runs together, for errors."""
MAX_GROUPS = 64
"""Groups of segments whose power is kept apart."""
CURVE_POINTS = 2048
"""Points at which the running integral of a block is kept."""


@dataclass(frozen=True)
class Settings:
    """What the caller may choose; None means: decide from the data."""

    mode: str = "default"
    """`default`, `sportran` or `vibes`."""
    method: str = "auto"
    """Estimator of record: `auto` (the composed rule), `cepstral`, `first_dip`,
    `replicas`."""
    fstar: float | None = None
    """f*, THz: the spectrum is decimated to this Nyquist frequency."""
    aic_factor: float = 3.0
    """K = aic_factor * K_AIC."""
    cutoff: int | None = None
    """K itself."""
    lag: float | None = None
    """Longest lag of the autocorrelation, fs."""
    filter_time: float | None = None
    """Width of the filter of the first dip, fs: the period of the slowest vibration."""
    symmetry: str = "auto"
    """`auto`: averaged over the point group, where the structure is known; `none`."""
    relative_error: float = 0.1
    """Wanted kappa_std / kappa, for the advice how much more data is needed."""


@dataclass(frozen=True)
class Plan:
    """Settings of the second pass, all from the first."""

    tau: float
    """Correlation time, fs: see `correlation_time`."""
    skips: tuple[int, ...]
    """Decimations whose spectra are kept; the scan over f*."""
    skip: int
    """The decimation of record."""
    lengths: tuple[int, ...]
    """N_s for each of `skips`."""
    window: int
    """Longest lag, samples."""
    filter_window: int
    """Filter of the first dip, samples."""
    block: int
    """Samples of a block."""
    group_every: int
    """Segments of a group of the spectrum of record."""

    @property
    def curve_stride(self) -> int:
        """Lags between two points of the running integral of a block."""
        return max(1, ceil((self.window + 1) / CURVE_POINTS))


def correlation_time(spectrum: Float, frequency: Float) -> float:
    """Return the time that resolves the spectrum near zero frequency, fs.

    It is 1/(4 pi f_1), f_1 the lowest frequency at which the (smooth) spectrum has left the
    range from `NEAR` to 1/`NEAR` of its value at zero: exactly tau for an exponential
    decay, and for a solid, whose flux oscillates, the scale on which the spectrum rises
    from kappa to its first band. It is this, not the integral of the normalised
    autocorrelation (which oscillations make as small as one likes), that says how long a
    run must be; and the range is narrow, because a slow part that makes only a fifth of
    kappa, or the tail of a power law, must be resolved as well. White noise gives half the
    sampling time.

    Args:
        spectrum: smooth density, shape (bins,).
        frequency: THz, shape (bins,).
    """
    ratio = spectrum / spectrum[0]
    away = np.flatnonzero((ratio < NEAR) | (ratio > 1 / NEAR))
    if not len(away):
        return float(1e3 / (4 * frequency[-1]))
    bin_ = int(away[0])
    low, high = np.log(ratio[bin_ - 1]), np.log(ratio[bin_])
    edge = -np.log(NEAR) * np.sign(high)
    part = (edge - low) / (high - low)
    left = frequency[bin_ - 1] + part * (frequency[bin_] - frequency[bin_ - 1])
    # an exponential has left it at omega tau = sqrt(1 / NEAR - 1)
    return float(1e3 * sqrt(1 / NEAR - 1) / (2 * np.pi * left))


def plan(
    lengths: Sequence[int], spacing: float, spectrum: Spectrum, settings: Settings
) -> Plan:
    """Choose the settings of the second pass.

    Args:
        lengths: samples of every contiguous piece of the runs.
        spacing: between samples, fs.
        spectrum: of the first pass, all runs.
        settings: the caller's wishes.

    Raises:
        FluxError: a flux of zeros.
    """
    smooth, frequency = _smooth(spectrum), spectrum.frequency
    tau = correlation_time(smooth, frequency)
    if settings.mode == "sportran":
        filter_window = _filter_window(smooth, frequency, settings, tau, spacing)
        return _sportran_plan(settings, spacing, lengths, tau, filter_window)
    longest = max(lengths)
    skip = _edge_skip(smooth, frequency, settings, longest)
    skips = _scan(skip, longest, tau / spacing) if settings.fstar is None else (skip,)
    least = [_up(max(2048, 200 * tau / (spacing * s))) for s in skips]
    chosen = tuple(
        segment_length([n // s for n in lengths], low)
        for s, low in zip(skips, least, strict=True)
    )
    filter_window = _filter_window(smooth, frequency, settings, tau, spacing)
    window = _window(settings, spacing, longest, tau, filter_window)
    block = _block(lengths, window, tau / spacing, filter_window)
    segments = sum(n // skip // chosen[skips.index(skip)] for n in lengths)
    every = 1 << max(0, ceil(segments / MAX_GROUPS) - 1).bit_length()
    return Plan(tau, skips, skip, chosen, window, filter_window, block, every)


def _sportran_plan(
    settings: Settings,
    spacing: float,
    lengths: Sequence[int],
    tau: float,
    filter_window: int,
) -> Plan:
    """One segment as long as the shortest run, decimated to f*, both lengths even."""
    skip = 1 if settings.fstar is None else max(1, round(500.0 / spacing / settings.fstar))
    shortest = min(lengths)
    decimated = (shortest - shortest % 2) // skip
    return Plan(
        tau,
        (skip,),
        skip,
        (decimated - decimated % 2,),
        min(MAX_WINDOW, shortest // 4),
        filter_window,
        max(1, shortest // 4),
        1,
    )


def _smooth(spectrum: Spectrum) -> Float:
    components = min(3, spectrum.matrix.shape[1])
    power = np.einsum("kaa->k", spectrum.matrix[:, :components, :components]).real
    dof = components * spectrum.segments
    return smoothed(cepstrum(_positive(power / dof), dof=dof, length=spectrum.length))


def smoothed(found: Cepstrum) -> Float:
    """Return the spectrum with twice the coefficients of AIC: less bias, hardly noisier."""
    return found.smooth(min(2 * found.cutoff_aic, found.length // 2))


def _positive(power: Float) -> Float:
    """Lift bins without power (a constant component, a removed mean) above zero."""
    if not np.isfinite(power).all():
        raise FluxError("the heat flux is too large to square; check its unit, eV Å/fs")
    if not np.any(power > 0):
        raise FluxError("the heat flux is zero throughout; was it computed?")
    return np.maximum(power, power[power > 0].min() * 1e-3 if np.any(power <= 0) else 0.0)


def _edge_skip(smooth: Float, frequency: Float, settings: Settings, longest: int) -> int:
    """Decimate to the frequency below which 99 % of the power lies, or to f*."""
    nyquist = float(frequency[-1])
    if settings.fstar is not None:
        return int(max(1, round(nyquist / settings.fstar)))
    share = np.cumsum(smooth) / smooth.sum()
    edge = frequency[min(len(share) - 1, int(np.searchsorted(share, 0.99)) + 1)]
    return _down(max(1, min(nyquist // edge, longest // 512)))


def _scan(skip: int, longest: int, tau: float) -> tuple[int, ...]:
    """Decimations around `skip`, up to means over 2 tau: those leave S(0) as it is."""
    most = max(skip, min(longest // 256, int(2 * tau)))
    wanted = {skip, *(_down(max(1, skip * f)) for f in (0.5, 0.75, 1.5, 2, 3, 4))}
    return tuple(sorted(s for s in wanted if s <= most))


def _down(number: float) -> int:
    """The largest of 1, 2, 3, 4, 6, 8, 12, 16, ... that is not larger."""
    power: int = 1 << (int(number).bit_length() - 1)
    return power * 3 // 2 if number >= 1.5 * power > 1 else power


def _up(number: float) -> int:
    """The smallest of 2, 3, 4, 6, 8, 12, 16, ... that is not smaller."""
    power: int = 1 << (ceil(number) - 1).bit_length()
    return power * 3 // 4 if power > 2 and number <= 0.75 * power else power


def _filter_window(
    smooth: Float, frequency: Float, settings: Settings, tau: float, spacing: float
) -> int:
    """One period of the slowest peak of the spectrum, or 2 tau where it has none."""
    if settings.filter_time is not None:
        return max(3, int(settings.filter_time / spacing))
    logs = np.log(smooth)
    rises = np.flatnonzero((logs[1:-1] > logs[:-2]) & (logs[1:-1] >= logs[2:])) + 1
    peaks = [p for p in rises if logs[p] - logs[:p].min() > np.log(1.5)]
    period = 1e3 / frequency[peaks[0]] if peaks else 2 * tau
    return max(3, ceil(max(period, tau) / spacing))


def _window(
    settings: Settings, spacing: float, longest: int, tau: float, filter_window: int
) -> int:
    if settings.lag is not None:
        return int(max(16, min(settings.lag / spacing, longest - 1)))
    if settings.mode == "vibes":
        return int(min(MAX_WINDOW, longest - 1))
    wanted = max(40 * tau / spacing, 12 * filter_window, MIN_WINDOW)
    wanted = 1 << (ceil(wanted) - 1).bit_length()
    return int(max(16, min(wanted, longest // 4, MAX_WINDOW)))


def _block(lengths: Sequence[int], window: int, tau: float, filter_window: int) -> int:
    """Samples of a block: at most 64 blocks in all, each long against the cut."""
    least = max(1.5 * window, 100 * tau, 20 * filter_window)
    if least > max(lengths) / 4:
        return ceil(max(lengths) / 4)
    return 1 << (ceil(max(sum(lengths) / MAX_BLOCKS, least)) - 1).bit_length()
