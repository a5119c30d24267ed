"""The progress of several batches of a stage, put together as if it were one."""

from collections.abc import Iterable

import numpy as np

from gkflux.dynamics.progress import Phase, Progress
from gkflux.dynamics.reporting import Header

__all__ = ["Board"]

PHASES: tuple[Phase, ...] = ("running", "committing", "starting", "stopped", "finished")
"""What a stage is doing: the first of these that any of its batches does."""


class Board:
    """A row a replica, written by whichever batch it is in."""

    def __init__(self, header: Header) -> None:
        """Begin with nothing known; the header is that of the whole stage."""
        count = header.replicas
        self._header = header
        self._reached = np.zeros(count, dtype=np.int64)
        self._committed = np.full(count, -1, dtype=np.int64)
        self._temperature, self._drift, self._kappa = np.full((3, count), np.nan)
        self._volume = np.full(count, np.nan)
        self._bytes = np.zeros(count)
        self._resumed: int | None = None
        self._batches: dict[str, Progress] = {}

    def put(self, batch: str, progress: Progress) -> None:
        """Take the newest state of a batch."""
        rows = list(progress.numbers)
        self._batches[batch] = progress
        self._reached[rows] = progress.step
        self._committed[rows] = progress.committed
        self._temperature[rows] = progress.temperature
        self._drift[rows] = progress.energy_drift
        self._kappa[rows] = progress.kappa_replicas
        self._volume[rows] = np.nan if progress.volume is None else progress.volume
        self._bytes[rows] = progress.bytes_written / len(rows)
        if progress.resumed_from is not None:
            resumed = self._resumed
            first = progress.resumed_from
            self._resumed = first if resumed is None else min(resumed, first)

    def remove(self, batch: str) -> None:
        """Forget the speed and the phase of a batch that is over; its rows stay."""
        self._batches.pop(batch, None)

    def finish(self, replicas: Iterable[int], steps: int) -> None:
        """Mark replicas whose files are complete."""
        rows = list(replicas)
        self._reached[rows] = self._committed[rows] = steps

    def progress(self, message: str | None = None, phase: Phase | None = None) -> Progress:
        """Return the state of the stage: as far, and as fast, as its slowest replica."""
        kappa = self._kappa[np.isfinite(self._kappa)]
        speeds = [p.steps_per_second for p in self._batches.values()]
        pace = [p.ns_per_day for p in self._batches.values()]
        left = [p.seconds_left for p in self._batches.values()]
        return self._header.progress(
            phase=self._phase() if phase is None else phase,
            step=int(self._reached.min()),
            committed=int(self._committed.min()),
            temperature=self._temperature.copy(),
            energy_drift=self._drift.copy(),
            kappa_replicas=self._kappa.copy(),
            kappa=float(kappa.mean()) if len(kappa) else float("nan"),
            bytes_written=round(self._bytes.sum()),
            steps_per_second=min(speeds, default=float("nan")),
            ns_per_day=min(pace, default=float("nan")),
            seconds_left=max(left, default=float("nan")),
            message=message,
            resumed_from=self._resumed,
            reached=tuple(int(step) for step in self._reached),
            volume=None if np.isnan(self._volume).all() else self._volume.copy(),
        )

    def _phase(self) -> Phase:
        phases = {progress.phase for progress in self._batches.values()}
        return next((phase for phase in PHASES if phase in phases), "starting")
