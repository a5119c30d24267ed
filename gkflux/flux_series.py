"""The columns of a trajectory that a reduction reads: the flux, and scalars of its steps.

In chunks of bounded size, in eV, Å, fs, K, whatever unit a file has; what is read beside,
and what it does to the flux, is decided by a `Beside`.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import stepson
from gkflux.beside import Beside, frames_of
from gkflux.correlate import Float
from gkflux.runs import Chunk
from gkflux.stored_units import factor
from stepson.batch import Batch

__all__ = ["Series", "factors_of", "read_samples", "scalar_series"]

FRAMES = 1 << 16
"""Frames of a batch: a few megabytes of small columns."""
Series = tuple[NDArray[np.int64], Float]
_SERIES = ("temperature", "energy", "energy_kinetic", "volume")


def factors_of(
    trajectory: stepson.Trajectory,
    path: str,
    names: Sequence[str] = ("heat_flux", *_SERIES),
) -> dict[str, float]:
    """What turns each field that is read into eV, Å, fs, K."""
    cell = None if "volume" in trajectory.fields else trajectory.metadata.get("cell")
    volume = None if cell is None else abs(float(np.linalg.det(np.array(cell, float))))
    return {
        name: factor(trajectory.fields[name], path, volume)
        for name in names
        if name in trajectory.fields
    }


def read_samples(
    files: Sequence[tuple[str, int, int | None]],
    every: int,
    start: int,
    stop: int,
    *,
    name: str = "heat_flux",
    beside: Beside | None = None,
) -> Iterator[Chunk]:
    """Read a range of samples of files (path, samples, step at which they end)."""
    before = 0
    for path, samples, end in files:
        low, high = max(start - before, 0), min(stop - before, samples)
        if low < high:
            yield from _read_file(path, (low, high), every, end, name, beside)
        before += samples


def _read_file(
    path: str,
    samples: tuple[int, int],
    every: int,
    end: int | None,
    name: str,
    beside: Beside | None,
) -> Iterator[Chunk]:
    """Read a range of samples of the flux called `name`, and the scalars of their steps."""
    low, high = samples
    with stepson.open(path) as trajectory:
        names = [each for each in _SERIES if each in trajectory.fields]
        factors = factors_of(trajectory, path, (name, *_SERIES))
        more = () if beside is None else beside.fields(trajectory)
        frames = frames_of(trajectory, more, FRAMES) if more else FRAMES
        steps = trajectory[name].steps
        first, last = int(steps[low]), int(steps[high - 1]) + every
        if high < len(steps):
            last = min(last, int(steps[high]))
        if end is not None:
            last = min(last, end)
        for batch in trajectory.stream(
            name, *names, *more, frames=frames, start=first, stop=last
        ):
            at = np.asarray(batch.steps[name], np.int64)
            rows = factors[name] * np.asarray(batch[name], dtype=np.float64)
            if beside is not None:
                rows = beside(rows, at, batch)
            yield Chunk(at, rows, _total_energy(_scalars(batch, names, factors)))


def scalar_series(
    trajectory: stepson.Trajectory, start: int | None = None
) -> Iterator[dict[str, Series]]:
    """Read temperature (K), total energy (eV) and volume (Å³) of a file, in chunks.

    Args:
        trajectory: opened.
        start: the first step wanted.
    """
    names = [name for name in _SERIES if name in trajectory.fields]
    if not names:
        return
    factors = factors_of(trajectory, str(trajectory.path), names)
    for batch in trajectory.stream(*names, frames=FRAMES, start=start):
        yield _total_energy(_scalars(batch, names, factors))


def _scalars(
    batch: Batch, names: Sequence[str], factors: Mapping[str, float]
) -> dict[str, Series]:
    return {
        name: (
            np.asarray(batch.steps[name], np.int64),
            factors[name] * np.asarray(batch[name], float),
        )
        for name in names
    }


def _total_energy(scalars: dict[str, Series]) -> dict[str, Series]:
    """Replace potential and kinetic energy by their sum where both are recorded."""
    potential = scalars.pop("energy", None)
    kinetic = scalars.pop("energy_kinetic", None)
    if potential is not None and kinetic is not None:
        steps, mine, theirs = np.intersect1d(
            potential[0], kinetic[0], assume_unique=True, return_indices=True
        )
        scalars["energy"] = (steps, potential[1][mine] + kinetic[1][theirs])
    return scalars
