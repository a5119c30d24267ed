r"""A first glance at the thermal conductivity while a run goes on. Not a result.

The flux of every replica is kept at a resolution that halves whenever the memory is full
(means of neighbours: the low frequencies, which are kappa, stay). From it the mean power
spectrum of all axes, smoothed over `SMOOTH` frequencies next to zero,

.. math:: \kappa = \frac{S(0)}{2 V k_B T^2}, \quad S(f) = \frac{\Delta t}{N} |\tilde J(f)|^2

One pass of a fast Fourier transform over at most `CAPACITY` samples: a few milliseconds
every few seconds. For numbers with error bars there is `gkflux.GreenKubo`.
"""

import numpy as np

from gkflux.dynamics.state import Floats
from stepson.units import BOLTZMANN, CONDUCTIVITY

__all__ = ["LiveKappa"]

CAPACITY = 1 << 14
FEWEST = 256
SMOOTH = 8


class LiveKappa:
    """Collects the heat flux of a batch, and estimates kappa when asked."""

    def __init__(
        self, *, replicas: int, timestep: float, volume: float, temperature: float
    ) -> None:
        """Begin.

        Args:
            replicas: in the batch.
            timestep: between two samples, fs.
            volume: Å³.
            temperature: K.
        """
        self._series = np.zeros((replicas, CAPACITY, 3))
        self._sum = np.zeros((replicas, 3))
        self._stride, self._in_sum, self._count = 1, 0, 0
        self._timestep = timestep
        self._factor = CONDUCTIVITY / (2 * volume * BOLTZMANN * temperature**2)

    def add(self, flux: Floats) -> None:
        """Take one sample, shape ``(replicas, 3)``, eV Å/fs."""
        self._sum += flux
        self._in_sum += 1
        if self._in_sum < self._stride:
            return
        self._series[:, self._count] = self._sum / self._stride
        self._sum[:] = 0.0
        self._in_sum = 0
        self._count += 1
        if self._count == CAPACITY:
            pairs = self._series.reshape(len(self._series), CAPACITY // 2, 2, 3)
            self._series[:, : CAPACITY // 2] = pairs.mean(axis=2)
            self._count //= 2
            self._stride *= 2

    def begin(self, flux: Floats) -> None:
        """Start with many samples at once, shape ``(replicas, k, 3)``."""
        count, stride = flux.shape[1], 1
        while count // stride >= CAPACITY:
            stride *= 2
        kept = count // stride
        groups = flux[:, : kept * stride].reshape(len(flux), kept, stride, 3)
        self._series[:, :kept] = groups.mean(axis=2)
        self._stride, self._count = stride, kept

    def estimate(self) -> Floats:
        """Return shape ``(replicas,)``, W/(m K); nan while there is too little."""
        replicas, count = len(self._series), self._count
        if count < FEWEST:
            return np.full(replicas, np.nan)
        spectrum = np.fft.rfft(self._series[:, :count], axis=1)[:, 1 : SMOOTH + 1]
        power = (spectrum.real**2 + spectrum.imag**2).mean(axis=(1, 2)) / count
        return np.asarray(self._factor * self._timestep * self._stride * power)
