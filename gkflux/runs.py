"""Where a reduction reads from: series of heat flux with their scalars, in chunks.

A `Run` is one molecular dynamics run, however many files it fills, or an array in memory.
Any range of its samples can be read as often as needed, a chunk at a time, so that nothing
of its length is ever in memory, and several readers can share it. Steps are integers; a
chunk carries its own, so gaps show.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.correlate import Float
from gkflux.errors import FluxError

__all__ = ["Chunk", "Part", "Run", "array_run"]

_FRAMES = 1 << 16
"""Samples of a chunk of an array."""


class Chunk(NamedTuple):
    """Consecutive samples."""

    steps: NDArray[np.int64]
    """Steps of the flux, shape (k,)."""
    flux: Float
    """Extensive heat flux, eV Å/fs, then mass currents if any, shape (k, C)."""
    scalars: Mapping[str, tuple[NDArray[np.int64], Float]]
    """Steps and values, shape (m,), of temperature (K), energy (potential plus kinetic,
    eV), volume (Å³), where they are known."""


class Part(NamedTuple):
    """A file that a run is made of."""

    uuid: str
    samples: int
    """Samples of the flux that count."""


@dataclass(frozen=True)
class Run:
    """One contiguous run."""

    name: str
    """What the report calls it: a path, or a number."""
    samples: int
    """Samples of the flux."""
    every: int
    """Steps between two samples."""
    timestep: float
    """Of one step, fs."""
    read: Callable[[int, int], Iterator[Chunk]]
    """Read the samples from one number up to before another, and the scalars of their
    steps, in chunks."""
    origin: int = 0
    """Step of the first sample."""
    channels: int = 3
    """Numbers of a sample: 3, or 3 M with mass currents."""
    volume: float | None = None
    """Å³, when it does not vary."""
    temperature: float | None = None
    """K, when there is no series of it."""
    parts: tuple[Part, ...] = ()
    """The files, where it is made of files: what was found in it can be kept."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What must agree for runs to be pooled, and what the report lists."""
    variant: str = ""
    """What was made of the flux of the files: a state of another variant is not its."""
    other: "Run | None" = None
    """The same run with its flux in another gauge, of which kappa must be the same."""

    @property
    def spacing(self) -> float:
        """Time between two samples of the flux, fs."""
        return self.every * self.timestep


def array_run(
    flux: ArrayLike,
    *,
    timestep: float,
    volume: float,
    temperature: ArrayLike,
    name: str = "array",
    currents: ArrayLike | None = None,
) -> Run:
    """Make a run of arrays in memory.

    Args:
        flux: extensive heat flux, eV Å/fs, shape (n, C), C one to three components.
        timestep: between two samples, fs.
        volume: Å³.
        temperature: kinetic temperature, K: a number, or a series of shape (n,).
        name: what the report calls it.
        currents: mass currents of the species of a fluid, any unit, shape (M - 1, n, C).

    Raises:
        FluxError: shapes that do not fit, or nothing to analyse.
    """
    rows = _columns(flux, currents)
    series = np.asarray(temperature, dtype=np.float64)
    if series.ndim and series.shape != (len(rows),):
        raise FluxError(
            f"temperature of shape {series.shape} for {len(rows)} samples of the flux; "
            "give one number, or one for each sample"
        )
    for what, value in (("timestep", timestep), ("volume", volume)):
        if not (np.isfinite(value) and value > 0):
            raise FluxError(f"{what} must be a positive number, not {value}")
    if not (np.all(np.isfinite(series)) and np.all(series > 0)):
        raise FluxError("temperature must be positive and finite, in K")
    return Run(
        name=name,
        samples=len(rows),
        every=1,
        timestep=float(timestep),
        read=_Arrays(rows, series if series.ndim else None),
        channels=rows.shape[1],
        volume=float(volume),
        temperature=None if series.ndim else float(series),
        facts={"source": "array in memory"},
    )


@dataclass(frozen=True)
class _Arrays:
    """Reads arrays; an object, not a closure, so that it travels to other processes."""

    rows: Float
    temperature: Float | None

    def __call__(self, start: int, stop: int) -> Iterator[Chunk]:
        for begin in range(start, stop, _FRAMES):
            part = slice(begin, min(begin + _FRAMES, stop))
            steps = np.arange(part.start, part.stop, dtype=np.int64)
            scalars = {}
            if self.temperature is not None:
                scalars["temperature"] = (steps, self.temperature[part])
            yield Chunk(steps, self.rows[part], scalars)


def _real(flux: ArrayLike) -> Float:
    try:
        return np.asarray(flux).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise FluxError("the flux is no array of real numbers") from None


def _columns(flux: ArrayLike, currents: ArrayLike | None) -> Float:
    rows = _real(flux)
    if rows.ndim != 2 or not 1 <= rows.shape[1] <= 3:
        raise FluxError(
            f"the flux has shape {rows.shape}, expected (n, 3): one row a sample, J "
            "extensive"
        )
    if len(rows) < 16:
        raise FluxError(f"{len(rows)} samples of the flux are too few to correlate")
    if currents is None:
        return rows
    extra = np.asarray(currents, dtype=np.float64)
    if extra.ndim != 3 or extra.shape[1:] != rows.shape:
        raise FluxError(
            f"currents of shape {extra.shape}, expected (M - 1, {len(rows)}, "
            f"{rows.shape[1]})"
        )
    return np.concatenate([rows, *extra], axis=1)
