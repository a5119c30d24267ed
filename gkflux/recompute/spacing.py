r"""Whether stored frames are close enough in time for a heat flux.

The flux is a product of two things that vibrate, so it reaches to twice the edge f_e of the
velocities' spectrum. Sampled every dt, what happens at a frequency f appears at 1/dt - f:
as long as 1/dt >= 2 f_e nothing is folded onto zero frequency, where the conductivity is
read. Measured, the density of the flux below 2 THz against that of the flux itself:

=================== ========= =======================================================
system              1/(2 f_e) ratio
=================== ========= =======================================================
silica (SporTran's) 14 fs     13 fs 1.02, 14 fs 1.05, 16 fs 1.21, 18 fs 1.52
ZrO2, 96 atoms      21 fs     20 fs 0.97, 24 fs 1.06, 28 fs 1.24, 40 fs 3.2
=================== ========= =======================================================

Half of that, the Nyquist criterion, would be needed for the whole spectrum, not for kappa.

f_e is read from the velocities of some atoms. Where they are sampled too coarsely
themselves, they cannot tell: their spectrum has not ended at the Nyquist frequency, or its
second moment is not

.. math:: \langle \omega^2 \rangle = \frac{\langle \sum_i F_i^2 / m_i \rangle}
    {\langle \sum_i m_i v_i^2 \rangle}

which the forces know from single frames. Then f_e is the largest frequency of the harmonic
vibrations about the first frame.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import stepson
from gkflux.errors import FluxError
from gkflux.potentials.base import Batch, Potential
from gkflux.recompute.source import Floats, Piece, Source
from gkflux.verdict import written
from stepson.units import KINETIC

__all__ = ["Spacing", "find_spacing"]

FRAMES = 4096
"""Frames whose velocities are read."""
ATOMS = 16
"""Atoms of every species whose velocities are read."""
LEAST = 64
"""Frames that make a spectrum."""
SEGMENT = 512
"""Frames of a segment of the spectrum at most: 0.5 THz at 4 fs."""
TAIL = 0.01
"""Part of the power of the velocities that lies beyond their edge."""
FLAT = 0.01
"""Density next to the Nyquist frequency, relative to the largest, that is not an end."""
FOLDED = 0.85
"""rms frequency of the spectrum, relative to that from forces, that is folded."""
VECTORS = 1000
"""Forces on atoms that make the second moment, at most 64 frames."""
STEP = 0.01
"""Å by which atoms are moved to find the curvature."""
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Spacing:
    """Time between frames, and what it should be."""

    spacing: float
    """fs."""
    edge: float
    """f_e, THz."""
    from_velocities: bool
    """Else from the curvature of the potential, because the velocities cannot tell."""

    @property
    def needed(self) -> float:
        """The longest time between frames that leaves the conductivity alone, fs."""
        return 500.0 / self.edge

    @property
    def fine(self) -> bool:
        """Whether frames are close enough."""
        return self.spacing <= self.needed * (1 + 1e-9)

    def __str__(self) -> str:
        whose = "the velocities reach" if self.from_velocities else "the vibrations reach"
        return (
            f"frames are {written(self.spacing)} apart, but {whose} to {self.edge:.3g} THz "
            f"and the heat flux to twice that: it needs a frame every {self.needed:.3g} fs "
            "or more often, or else high frequencies are counted as conductivity"
        )


def find_spacing(source: Source, potential: Potential) -> Spacing:
    """Compare the time between frames with the edge of the velocities' spectrum.

    Args:
        source: the frames.
        potential: for what coarsely sampled velocities cannot tell.

    Raises:
        FluxError: a frame that is not finite, or atoms that the model does not know.
    """
    steps, velocities, weights = _velocities(source)
    every = int(np.median(np.diff(steps)))
    spacing = every * source.timestep
    gaps = np.flatnonzero(np.diff(steps) != every)
    even = int(gaps[0]) + 1 if len(gaps) else len(steps)
    batch = potential.batch([source.system])
    if even >= LEAST:
        power, frequency = _density(velocities[:even], weights, spacing)
        if not _cut_off(power) and not _folded(
            source, batch, steps[:even], power, frequency
        ):
            share = np.cumsum(power) / power.sum()
            edge = float(frequency[int(np.searchsorted(share, 1 - TAIL))])
            return Spacing(spacing, edge, True)
    return Spacing(spacing, _stiffest(source, batch), False)


def _velocities(source: Source) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Velocities of some atoms of every species (k, m, 3), and sqrt of their weights (m,).

    A species has the weight of its mass and of all its atoms.
    """
    numbers, masses = source.system.numbers, source.system.masses
    with stepson.open(source.path) as trajectory:
        column = trajectory["velocities"]
        count = min(FRAMES, len(column))
        parts, weights = [], []
        for kind in np.unique(numbers):
            low = int(np.argmax(numbers == kind))
            chosen = np.flatnonzero(numbers[low : low + ATOMS] == kind)
            read = np.asarray(column[:count, low : low + ATOMS], np.float64)[:, chosen]
            parts.append(source.factors["velocities"] * read)
            share = np.count_nonzero(numbers == kind) / len(chosen)
            weights.append(np.sqrt(masses[low + chosen] * share))
        steps = column.steps[:count]
    found = np.concatenate(parts, axis=1)
    if not np.isfinite(found).all():
        bad = int(np.argmin(np.isfinite(found).all(axis=(1, 2))))
        raise FluxError(
            f"{source.path}: velocities of step {steps[bad]} are not finite; find out what "
            "the simulation did there, and give the sound part of it"
        )
    return steps, found, np.concatenate(weights)


def _density(velocities: Floats, weights: Floats, spacing: float) -> tuple[Floats, Floats]:
    """Density of vibrations, and frequencies, THz; Welch's method with Hann's taper."""
    from scipy.signal import welch

    series = (velocities * weights[:, None]).reshape(len(velocities), -1)
    length = min(SEGMENT, len(series) // 2)
    frequency, power = welch(
        series, fs=1e3 / spacing, nperseg=length, detrend=False, axis=0
    )
    return np.asarray(power.sum(axis=1)), np.asarray(frequency)


def _cut_off(power: Floats) -> bool:
    """Whether the spectrum has not ended where it stops, at the Nyquist frequency."""
    tail = power[-max(2, len(power) // 20) :]
    return bool(tail.mean() > FLAT * power.max())


def _folded(
    source: Source,
    batch: Batch,
    steps: NDArray[np.int64],
    power: Floats,
    frequency: Floats,
) -> bool:
    """Whether the spectrum has a smaller second moment than the forces say."""
    masses = source.system.masses[:, None]
    count = int(min(64, len(steps), -(-VECTORS // source.system.n_atoms)))
    pull = motion = 0.0
    for step in steps[np.linspace(0, len(steps) - 1, count).astype(int)].tolist():
        for frames in source.read(Piece(step, step + 1, 1)):
            for r, v in zip(frames.positions, frames.velocities, strict=True):
                forces = batch.forces(r[None]).forces[0]
                pull += float((forces**2 / masses).sum()) / KINETIC**2
                motion += float((masses * v**2).sum())
    if not motion:
        return False
    true = 1e3 * np.sqrt(pull / motion) / (2 * np.pi)
    found = np.sqrt((frequency**2 * power).sum() / power.sum())
    return bool(found < FOLDED * true)


def _stiffest(source: Source, batch: Batch) -> float:
    """The largest frequency of harmonic vibrations about the first frame, THz."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    (frames,) = source.read(Piece(source.first, source.first + 1, 1))
    start = frames.positions[0]
    root = np.sqrt(source.system.masses)[:, None]

    def curvature(vector: Floats) -> Floats:
        u = vector.reshape(start.shape) / root
        size = STEP / max(float(np.abs(u).max()), 1e-300)
        there, back = (
            batch.forces((start + side * size * u)[None]).forces[0] for side in (1, -1)
        )
        return np.asarray(((back - there) / (2 * size) / root).reshape(-1))

    operator = _operator(LinearOperator, curvature, start.size)
    first = np.random.default_rng(0).normal(size=start.size)
    (largest,) = eigsh(
        operator, k=1, which="LA", v0=first, tol=0.02, return_eigenvectors=False
    )
    return float(1e3 * np.sqrt(max(largest, 1e-300) / KINETIC) / (2 * np.pi))


def _operator(kind: type, apply: Callable[[Floats], Floats], size: int) -> object:
    return kind((size, size), matvec=apply, dtype=np.float64)
