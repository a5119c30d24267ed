r"""Spectra of long series, added up over segments (Bartlett's method).

Theory of operation
-------------------
A run is first *decimated*: block means of `skip` samples, aligned to the start of the
run, never point samples (at 18 fs point sampling doubles kappa of silica, block means
leave it alone). The result is cut into segments of N_s samples without overlap and
without taper, and

.. math:: S_{ab}(f_k) = \frac{1}{B} \sum_{b=1}^{B} \frac{\Delta t}{N_s} X_a(f_k) X_b^*(f_k)

is summed; a tapered or overlapping estimate would correlate neighbouring bins, and the
cepstral analysis rests on their independence. The mean is not removed: an exactly removed
mean makes the zero-frequency bin the logarithm of zero. A mean that is no fluctuation (the
momentum of the whole, a constant of another program) fills that bin and no other one:
`Spectrum.without_offset` finds it, and puts the next bin in its place. What is left over at
the end of a run is dropped, and counted.

Sums over segments of different runs simply add, in any order, so `update`, `merge` and
`finalize` are exact. The two-sided density at zero frequency is the integral over all
times of the autocorrelation: kappa = prefactor * S(0) / 2.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from gkflux.correlate import Float

__all__ = ["Decimator", "Spectrum", "SpectrumAccumulator", "segment_length"]

Complex = NDArray[np.complex128]

_BATCH = 1 << 18
"""Numbers transformed at a time: the transforms of many short segments share one call."""


class Decimator:
    """Block means of `skip` samples, aligned to the first sample it was given."""

    def __init__(self, skip: int, channels: int) -> None:
        self.skip = skip
        self._channels = channels
        # As a product of matrices a sum over short rows costs a tenth of numpy's mean.
        self._average = np.tile(np.eye(channels) / skip, (skip, 1))
        self._rest = np.zeros((0, channels))

    def update(self, samples: Float) -> Float:
        """Return the block means that `samples`, shape (k, C), complete."""
        if self.skip == 1:
            return samples
        rows = np.concatenate([self._rest, samples])
        whole = len(rows) // self.skip * self.skip
        self._rest = rows[whole:].copy()
        means: Float = rows[:whole].reshape(-1, self.skip * self._channels) @ self._average
        return means


_NEAR = 8
"""Bins next to zero frequency that say what is expected there."""
_CHANCE = 1e-4
"""Probability that fluctuations alone are taken for an offset."""


@dataclass(frozen=True)
class Spectrum:
    """Sum of the spectral density matrices of `segments` segments."""

    length: int
    """N_s, samples of a segment."""
    spacing: float
    """Time between the (decimated) samples, fs."""
    segments: int
    """B, segments summed."""
    dropped: int
    """Decimated samples in no segment."""
    matrix: Complex
    """Sum of S_ab over segments, shape (N_s // 2 + 1, C, C), unit of the samples squared
    x fs."""
    groups: Float = field(default_factory=lambda: np.zeros((0, 0)))
    """Sum over channels of the power of each group of segments, shape (groups, N_s // 2 +
    1)."""
    group_segments: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Segments of each group, shape (groups,)."""
    group_numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Number of each group in its run, ascending, shape (groups,)."""

    @property
    def frequency(self) -> Float:
        """Frequencies of the bins, THz, shape (N_s // 2 + 1,)."""
        bins: Float = 1e3 * np.asarray(fft.rfftfreq(self.length, self.spacing), np.float64)
        return bins

    @property
    def nyquist(self) -> float:
        """Half the sampling frequency, THz."""
        return 500.0 / self.spacing

    @property
    def power(self) -> Float:
        """Mean over segments and channels of the density, shape (N_s // 2 + 1,)."""
        trace = np.einsum("kaa->k", self.matrix).real
        power: Float = trace / (max(1, self.segments) * self.matrix.shape[1])
        return power

    def merge(self, other: "Spectrum") -> "Spectrum":
        """Return the sum over the segments of both; their groups stay apart."""
        if (self.length, self.spacing) != (other.length, other.spacing):
            raise ValueError(
                f"spectra of {self.length} and {other.length} samples, "
                f"{self.spacing} and {other.spacing} fs apart, do not add"
            )
        return replace(
            self,
            segments=self.segments + other.segments,
            dropped=self.dropped + other.dropped,
            matrix=self.matrix + other.matrix,
            groups=np.concatenate([self.groups, other.groups]),
            group_segments=np.concatenate([self.group_segments, other.group_segments]),
            group_numbers=np.concatenate([self.group_numbers, other.group_numbers]),
        )

    def join(self, other: "Spectrum") -> "Spectrum":
        """Return the sum over the segments of both, those of `other` being the next ones.

        A group that begins here and goes on there becomes one.
        """
        both, seam = self.merge(other), len(self.groups)
        numbers = both.group_numbers
        if not 0 < seam < len(numbers) or numbers[seam - 1] != numbers[seam]:
            return both
        groups, sizes = both.groups.copy(), both.group_segments.copy()
        groups[seam - 1] += groups[seam]
        sizes[seam - 1] += sizes[seam]
        keep = np.arange(len(numbers)) != seam
        return replace(
            both,
            groups=groups[keep],
            group_segments=sizes[keep],
            group_numbers=numbers[keep],
        )

    def scaled(self, factor: float) -> "Spectrum":
        """Return the spectrum of samples multiplied by `factor`."""
        return replace(self, matrix=self.matrix * factor**2, groups=self.groups * factor**2)

    @property
    def has_offset(self) -> bool:
        """Whether a constant in any channel stands out of its fluctuations.

        F-test of the bin at zero against the `_NEAR` next ones; where these rise towards
        zero, the rise is granted to it once more, squared.
        """
        density = np.einsum("kaa->ka", self.matrix).real
        if not self.segments or len(density) <= 2 * _NEAR:
            return False
        near = density[1 : _NEAR + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            rise = np.maximum(1.0, near[:2].mean(axis=0) / near[2:].mean(axis=0)) ** 2
            ratio = density[0] / (rise * near.mean(axis=0))
        one = self.segments
        limit = special.fdtri(one, 2 * _NEAR * one, 1 - _CHANCE / density.shape[1])
        return bool(np.any(ratio > limit))

    def without_offset(self) -> "Spectrum":
        """Return the spectrum with its second bin in place of the first, if that is needed.

        A constant is in the first bin and no other, and what belongs there has the same
        expectation as the second, as far as segments resolve the spectrum at all.
        """
        if not self.has_offset:
            return self
        matrix, groups = self.matrix.copy(), self.groups.copy()
        matrix[0] = matrix[1].real
        groups[:, 0] = groups[:, 1]
        return replace(self, matrix=matrix, groups=groups)


class SpectrumAccumulator:
    """Feed it the samples of one run in order, take the `Spectrum` of its whole segments.

    Args:
        length: N_s, decimated samples of a segment.
        channels: C.
        timestep: between the samples before decimation, fs.
        skip: samples of a block mean.
        group_every: segments whose power is kept apart as one group, for errors and halves.
        first: number in the run of the first segment, which says to which group it belongs.
    """

    def __init__(
        self,
        length: int,
        channels: int,
        timestep: float,
        skip: int = 1,
        group_every: int = 0,
        first: int = 0,
    ) -> None:
        self.length = length
        self.spacing = timestep * skip
        self._every, self._first = group_every, first
        self._decimator = Decimator(skip, channels)
        self._rest: list[Float] = []
        self._waiting = 0
        self._segments = 0
        self._matrix = np.zeros((length // 2 + 1, channels, channels), np.complex128)
        self._groups: list[Float] = []
        self._sizes: list[int] = []
        self._numbers: list[int] = []
        self._batch = max(1, _BATCH // (length * channels))

    def update(self, samples: Float) -> None:
        """Take the samples that follow, shape (k, C)."""
        rows = self._decimator.update(np.asarray(samples, dtype=np.float64))
        self._rest.append(rows)
        self._waiting += len(rows)
        if self._waiting >= self.length * self._batch:
            self._consume()

    def state(self) -> Spectrum:
        """Return the sum so far; more samples may follow."""
        self._consume()
        bins = self.length // 2 + 1
        groups = np.stack(self._groups) if self._groups else np.zeros((0, bins))
        return Spectrum(
            self.length,
            self.spacing,
            self._segments,
            self._waiting,
            self._matrix * (self.spacing / self.length),
            groups * (self.spacing / self.length),
            np.asarray(self._sizes, np.int64),
            np.asarray(self._numbers, np.int64),
        )

    def _consume(self) -> None:
        if self._waiting < self.length:
            return
        rows = np.concatenate(self._rest)
        whole = len(rows) // self.length
        cut = whole * self.length
        for start in range(0, whole, self._batch):
            part = rows[start * self.length : min(start + self._batch, whole) * self.length]
            self._add(part.reshape(-1, self.length, rows.shape[1]))
        self._rest = [rows[cut:].copy()]
        self._waiting = len(rows) - cut

    def _add(self, segments: Float) -> None:
        amplitudes: Complex = fft.rfft(
            np.ascontiguousarray(segments.transpose(2, 0, 1)), axis=2
        )
        conjugates = amplitudes.conj()
        channels = len(amplitudes)
        for a in range(channels):
            for b in range(a, channels):
                product = np.einsum("sk,sk->k", amplitudes[a], conjugates[b])
                self._matrix[:, a, b] += product
                if a != b:
                    self._matrix[:, b, a] += product.conj()
        if self._every:
            self._add_groups(np.einsum("csk,csk->sk", amplitudes, conjugates).real)
        self._segments += len(segments)

    def _add_groups(self, power: Float) -> None:
        for number, row in enumerate(power, start=self._first + self._segments):
            group = number // self._every
            if not self._numbers or self._numbers[-1] != group:
                self._groups.append(np.zeros_like(row))
                self._sizes.append(0)
                self._numbers.append(group)
            self._groups[-1] += row
            self._sizes[-1] += 1


def segment_length(lengths: list[int], minimum: int) -> int:
    """Choose N_s so that as little as possible of the runs is dropped.

    Args:
        lengths: decimated samples of every run.
        minimum: samples that a segment should have at least, for resolution; halved runs
            are never glued, so a set of runs that are all shorter gives their common
            length.

    Returns:
        an even length between `minimum` and twice that, with fast transforms where
        possible; twice the minimum where that wastes next to nothing.
    """
    longest = max(lengths)
    if sum(n % (2 * minimum) for n in lengths) <= 0.02 * sum(lengths):
        return 2 * minimum
    low = min(minimum, longest)
    if low < minimum:
        return max(2, low)
    high = min(2 * low, longest)
    candidates = {
        fft.next_fast_len(n) for n in np.unique(np.geomspace(low, high, 200).astype(int))
    }
    candidates |= {n // parts for n in lengths for parts in range(1, 1 + min(64, n // low))}
    usable = np.array(
        sorted(n - n % 2 for n in candidates if low <= n - n % 2 <= high) or [low]
    )
    used = sum((n // usable) * usable for n in np.asarray(lengths))
    best = used >= used.max() * 0.995  # of equals, the longest resolves most
    return int(usable[best][0])
