"""Where a reduction reads from: series of heat flux with their scalars, in chunks.

A `Run` is one molecular dynamics run, however many files it fills, or an array in memory.
It can be read from its beginning as often as needed, a chunk at a time, so that nothing
of its length is ever in memory. Steps are integers; a chunk carries its own, so gaps
show.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.correlate import Float
from gkflux.errors import FluxError

__all__ = ["Chunk", "Run", "array_run"]

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
    chunks: Callable[[], Iterator[Chunk]]
    """Read the run from its beginning."""
    channels: int = 3
    """Numbers of a sample: 3, or 3 M with mass currents."""
    volume: float | None = None
    """Å³, when it does not vary."""
    temperature: float | None = None
    """K, when there is no series of it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What must agree for runs to be pooled, and what the report lists."""

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
    steps = np.arange(len(rows), dtype=np.int64)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(rows), _FRAMES):
            part = slice(start, start + _FRAMES)
            scalars = {"temperature": (steps[part], series[part])} if series.ndim else {}
            yield Chunk(steps[part], rows[part], scalars)

    return Run(
        name=name,
        samples=len(rows),
        every=1,
        timestep=float(timestep),
        chunks=chunks,
        channels=rows.shape[1],
        volume=float(volume),
        temperature=None if series.ndim else float(series),
        facts={"source": "array in memory"},
    )


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
