r"""Cepstral estimate of the zero-frequency limit of a spectrum.

L. Ercole, A. Marcolongo, S. Baroni, Sci. Rep. 7, 15835 (2017); several currents: R.
Bertossa, F. Grasselli, L. Ercole, S. Baroni, Phys. Rev. Lett. 122, 255901 (2019); program
SporTran.

======  ====================================================================  ==============
symbol  meaning                                                               name
======  ====================================================================  ==============
P(f_k)  mean of l independent periodograms, dt/N |X_k|²                       power
l       independent (component, segment) pairs, minus currents, plus one     dof
N       samples of a segment                                                  length
y_k     ln P - (psi(l) - ln l), unbiased log-spectrum                         logs
c_n     its cosine coefficients, n = 0 .. N/2                                 coefficients
K       coefficients kept after c_0                                           cutoff
L0      c_0 + 2 sum_{1..K} c_n = estimate of ln S(0)                          log_zero
======  ====================================================================  ==============

P / S is distributed as chi²_{2l}/2l, at the self-conjugate bins (zero, and Nyquist, which
exists only for even N) as chi²_l/l: there l/2 takes the place of l. The noise of the
logarithm is additive, known and the same everywhere, so var c_n = psi'(l)/N, twice that
at the self-conjugate n, and Akaike's criterion says how many coefficients are signal:

    AIC(K) = sum_{n>K} c_n²/var c_n + 2 (K + 1),    sigma²(L0) = psi'(l) (4 K + 2) / N.

Why K = 3 K_AIC, and what its error is. At the minimum of AIC the first coefficient left
out is about as large as its error, and the tail that is cut off has one sign (a peak at
zero frequency is under-fitted), so the plain interval covers 10 to 96 % of a claimed 95 %.
Three times as many coefficients remove most of the bias for a known increase of the
variance. What L0 changed by on the way from K_AIC to K, as far as that is more than the
noise of the coefficients added, tells how much of the bias may be left: by so much the
error is larger,

    error² = sigma²(K) + max(0, [L0(K) - L0(K_AIC)]² - [sigma²(K) - sigma²(K_AIC)]),

which matters for slow tails (the spectrum has a cusp at zero frequency, c_n falls like a
power of n) and hardly elsewhere. Measured on processes with exactly known integrals:
``benchmarks/calibration.py``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gkflux.correlate import Float
from gkflux.errors import FluxError

__all__ = ["Cepstrum", "cepstrum", "schur_power"]


@dataclass(frozen=True)
class Cepstrum:
    """The cepstral analysis of one spectrum, for every possible cut-off at once."""

    dof: float
    """l."""
    length: int
    """N."""
    coefficients: Float
    """c_n, shape (N // 2 + 1,)."""
    aic: Float
    """AIC(K), shape (N // 2 + 1,)."""
    cutoff_aic: int
    """K at the minimum of AIC."""
    cutoff: int
    """K in use."""

    def log_zero(self, cutoff: int | None = None) -> float:
        """L0 = ln S(0)."""
        return float(self.log_zeros[self.cutoff if cutoff is None else cutoff])

    def log_zero_std(self, cutoff: int | None = None) -> float:
        """Asymptotic standard error of L0."""
        kept = self.cutoff if cutoff is None else cutoff
        return float(self.log_zero_stds[kept])

    def log_zero_error(self, cutoff: int | None = None, before: int | None = None) -> float:
        """Error of L0 with what it still changes with K, see the module.

        Args:
            cutoff: K; by default the one in use.
            before: the K from which on the change counts; K_AIC by default.
        """
        kept = self.cutoff if cutoff is None else cutoff
        first = min(kept, self.cutoff_aic if before is None else before)
        logs, stds = self.log_zeros, self.log_zero_stds
        noise = stds[kept] ** 2 - stds[first] ** 2
        change = max(0.0, (logs[kept] - logs[first]) ** 2 - noise)
        return float(np.sqrt(stds[kept] ** 2 + change))

    @property
    def zero(self) -> float:
        """S(0) = exp(L0), the integral over all times of the autocorrelation."""
        return float(np.exp(self.log_zero()))

    @property
    def log_zeros(self) -> Float:
        """L0 for every K, shape (N // 2 + 1,)."""
        sums: Float = self.coefficients[0] + 2 * np.concatenate(
            [[0.0], np.cumsum(self.coefficients[1:])]
        )
        return sums

    @property
    def log_zero_stds(self) -> Float:
        """Standard error of L0 for every K, shape (N // 2 + 1,)."""
        variance = special.polygamma(1, self.dof) / self.length
        stds: Float = np.sqrt(variance * (4 * np.arange(len(self.coefficients)) + 2))
        return stds

    def smooth(self, cutoff: int | None = None) -> Float:
        """Return the spectrum rebuilt from the coefficients kept, shape (N // 2 + 1,)."""
        kept = self.cutoff if cutoff is None else cutoff
        filtered = np.where(
            np.arange(len(self.coefficients)) <= kept, self.coefficients, 0.0
        )
        if self.length % 2 == 0:
            filtered[-1] /= 2  # the Nyquist coefficient enters once, as c_0 does
        full = np.concatenate([filtered, filtered[1 : (self.length + 1) // 2][::-1]])
        logs = np.fft.rfft(full).real
        if self.length % 2 == 0 and kept >= len(self.coefficients) - 1:
            logs += self.coefficients[-1] / 2 * (-1.0) ** np.arange(len(logs))
        smooth: Float = np.exp(logs)
        return smooth


def cepstrum(
    power: Float, *, dof: float, length: int, factor: float = 3.0, cutoff: int | None = None
) -> Cepstrum:
    """Analyse the spectrum of a segment.

    Args:
        power: P at the bins of a real transform, shape (length // 2 + 1,), any unit.
        dof: l, independent periodograms in the mean.
        length: N, samples of a segment, even or odd.
        factor: K = factor * K_AIC, rounded; 1 is SporTran's choice.
        cutoff: K itself, instead of a multiple of K_AIC.

    Returns:
        the analysis; its `zero` is S(0) in the unit of `power`.

    Raises:
        ValueError: a length that is not that of the spectrum.
        FluxError: a bin without power: the mean of the series was removed, or the series
            is constant.
    """
    if len(power) != length // 2 + 1:
        raise ValueError(f"{len(power)} bins do not belong to segments of {length} samples")
    if not np.all(power > 0):
        where = int(np.argmin(power > 0))
        raise FluxError(
            f"the flux has no power at bin {where} of its spectrum: it is constant, or "
            "its mean was removed"
        )
    twice = _self_conjugate(length)
    shape = np.where(twice, dof / 2, dof)
    logs = np.log(power) - (special.psi(shape) - np.log(shape))
    coefficients = np.fft.irfft(logs, length)[: length // 2 + 1]
    variance = np.where(twice, 2.0, 1.0) * special.polygamma(1, dof) / length
    aic = _aic(coefficients, variance)
    best = int(np.argmin(aic))
    kept = round(factor * best) if cutoff is None else cutoff
    kept = min(max(0, kept), len(coefficients) - 1)
    return Cepstrum(dof, length, coefficients, aic, best, kept)


def schur_power(matrix: NDArray[np.complex128], segments: int) -> tuple[Float, int]:
    """Reduce spectra of several currents to that of the heat current which carries no mass.

    Args:
        matrix: sum over `segments` independent (component, segment) pairs of the density
            matrix of M currents, the heat current first, shape (bins, M, M).
        segments: number of pairs, B l0.

    Returns:
        P = 1 / (S^-1)_00 / l, shape (bins,), and l = segments - M + 1.

    Raises:
        FluxError: fewer pairs than currents.
    """
    currents = matrix.shape[1]
    dof = segments - currents + 1
    if dof < 1:
        raise FluxError(
            f"{currents} currents need as many components times segments, not {segments}: "
            "run longer, or give fewer currents"
        )
    if currents == 1:
        return np.ascontiguousarray(matrix[:, 0, 0].real) / dof, dof
    power: Float = 1.0 / np.linalg.inv(matrix)[:, 0, 0].real / dof
    return power, dof


def _self_conjugate(length: int) -> NDArray[np.bool_]:
    bins = np.zeros(length // 2 + 1, dtype=bool)
    bins[0] = True
    if length % 2 == 0:
        bins[-1] = True
    return bins


def _aic(coefficients: Float, variance: Float) -> Float:
    terms = coefficients**2 / variance
    beyond = np.concatenate([np.cumsum(terms[:0:-1])[::-1], [0.0]])
    aic: Float = beyond + 2.0 * (np.arange(len(terms)) + 1)
    return aic
