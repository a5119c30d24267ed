"""Temperature and energy of runs against time, in a bounded number of points.

For a look at a run in progress: each call of `update` reads only the samples that were
committed since the one before, and means of neighbours are merged whenever there are too
many points, so a trajectory of any length is followed at the price of its growth.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import stepson
from gkflux.correlate import Float
from gkflux.flux_series import Series, scalar_series
from gkflux.moments import TimeMoments

__all__ = ["History"]

POINTS = 128
"""Points of a curve at most; at least half as many, once there are so many samples."""


@dataclass
class _File:
    """One trajectory, as far as it was read."""

    path: Path
    moments: TimeMoments | None = None
    step: int | None = None
    """The last one read."""
    timestep: float = 0.0
    target: int | None = None
    """Steps of the stage, where the file says so."""
    stage: str | None = None
    sealed: bool = False
    size: int = 0
    atoms: int = 0


@dataclass
class History:
    """Follows some trajectories."""

    files: list[_File] = field(default_factory=list)

    @classmethod
    def of(cls, paths: Iterable[str | Path]) -> "History":
        """Begin to follow; nothing is read yet."""
        return cls([_File(Path(path)) for path in paths])

    def update(self) -> bool:
        """Read what was committed since the last call, and say whether that was anything.

        Raises:
            FormatError: a file cannot be read.
        """
        changed = [_update(file) for file in self.files]
        return any(changed)

    @property
    def steps(self) -> list[int]:
        """Last step of every file."""
        return [file.step or 0 for file in self.files]

    @property
    def finished(self) -> bool:
        """Whether every file was closed at the last step of its stage, or without one."""
        return all(
            file.sealed and (file.target is None or (file.step or 0) >= file.target)
            for file in self.files
        )

    @property
    def atoms(self) -> int:
        """Of one file; 0: nothing was read yet."""
        return max((file.atoms for file in self.files), default=0)

    def curve(self, name: str) -> tuple[Float, Float]:
        """Return times (ps) and means over all files of a quantity.

        Args:
            name: ``temperature`` (K) or ``energy`` (potential plus kinetic, eV).
        """
        known = [f for f in self.files if f.moments is not None and f.timestep]
        span = max((f.moments.span for f in known if f.moments is not None), default=1)
        sums: dict[int, list[float]] = {}
        for file in known:
            assert file.moments is not None
            blocks = file.moments.coarser(span).blocks.get(name, {})
            for number, one in blocks.items():
                if one.count:
                    sums.setdefault(number, []).append(one.mean)
        numbers = sorted(sums)
        timestep = known[0].timestep if known else 0.0
        times = (np.array(numbers, dtype=float) + 0.5) * span * timestep / 1000
        return times, np.array([np.mean(sums[number]) for number in numbers])


def _update(file: _File) -> bool:
    with stepson.open(file.path) as trajectory:
        size, sealed = trajectory.size, trajectory.sealed
        changed = (size, sealed) != (file.size, file.sealed)
        file.size, file.sealed = size, sealed
        if file.moments is None:
            file.atoms = trajectory.n_atoms
            stage = trajectory.metadata.get("stage") or {}
            file.timestep = float(trajectory.metadata.get("timestep") or 0.0)
            file.target, file.stage = stage.get("steps"), stage.get("name")
        start = None if file.step is None else file.step + 1
        for series in scalar_series(trajectory, start):
            file.moments = _taken(file.moments, series)
        if len(trajectory):
            file.step = trajectory.last_step
    return changed


def _taken(moments: TimeMoments | None, series: dict[str, Series]) -> TimeMoments | None:
    """Merge samples, in blocks of time that are widened until they are few enough."""
    ends = [int(steps[-1]) for steps, _ in series.values() if len(steps)]
    if not ends:
        return moments
    span = 1 if moments is None else moments.span
    while max(ends) // span >= POINTS:
        span *= 2
    part = TimeMoments.of(span, series)
    return part if moments is None else moments.merge(part)
