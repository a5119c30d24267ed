"""Keeps what a listener wants to know about a stage, and tells it a few times a second."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gkflux.dynamics.live_kappa import LiveKappa
from gkflux.dynamics.progress import Listener, Phase, Progress
from gkflux.dynamics.state import Floats

__all__ = ["Header", "Reporter"]

INTERVAL = 0.2
KAPPA_INTERVAL = 5.0
WINDOW = 10.0
FEMTOSECONDS = 1e-6 * 86_400


@dataclass(frozen=True)
class Header:
    """What does not change during a stage: see `Progress`."""

    stage: str
    stage_index: int
    stage_count: int
    ensemble: str
    steps: int
    timestep: float
    replicas: int
    n_atoms: int
    system: str
    potential: str
    target: float
    numbers: tuple[int, ...] = ()

    def progress(self, **now: Any) -> Progress:
        """Return a `Progress` of all this, and of what changes."""
        return Progress(**vars(self), **now)


@dataclass
class Reporter:
    """Tells a listener about one stage.

    Attributes:
        header: the constant part.
        listener: who wants to know, or None.
        kappa: collects the flux, or None.
        resumed_from: see `Progress`.
        committed: last durable step.
        bytes_written: size of the files.
        messages: all that were sent, of all stages: shared between reporters.
        clock: seconds; another one in tests.
    """

    header: Header
    listener: Listener | None
    kappa: LiveKappa | None = None
    resumed_from: int | None = None
    committed: int = -1
    bytes_written: int = 0
    messages: list[str] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        nothing = np.full(self.header.replicas, np.nan)
        self._kappas, self._temperature, self._drift = nothing, nothing, nothing
        self._volume: Floats | None = None
        self._step = self.resumed_from or 0
        self._next, self._next_kappa = 0.0, 0.0
        self._speeds: deque[tuple[float, int]] = deque()

    def due(self, now: float) -> bool:
        """Whether it is time to `update`."""
        return now >= self._next

    def update(
        self,
        now: float,
        step: int,
        temperature: Floats,
        drift: Floats,
        volume: Floats | None = None,
    ) -> None:
        """Tell how far the stage is."""
        self._next = now + INTERVAL
        self._step, self._temperature, self._drift = step, temperature, drift
        self._volume = volume
        self._speeds.append((now, step))
        while now - self._speeds[0][0] > WINDOW:
            self._speeds.popleft()
        if self.kappa is not None and now >= self._next_kappa:
            self._kappas = self.kappa.estimate()
            self._next_kappa = now + KAPPA_INTERVAL
        self.send("running")

    def say(self, message: str, phase: Phase = "running") -> None:
        """Send a line worth showing."""
        self.messages.append(message)
        self.send(phase, message)

    def send(
        self, phase: Phase, message: str | None = None, step: int | None = None
    ) -> None:
        """Send the present state."""
        self._step = self._step if step is None else step
        if self.listener is not None:
            self.listener(self._progress(phase, message))

    def speed(self) -> float:
        """Return steps per second over the last seconds; nan when unknown."""
        if len(self._speeds) < 2:
            return float("nan")
        (t0, s0), (t1, s1) = self._speeds[0], self._speeds[-1]
        return (s1 - s0) / (t1 - t0) if t1 > t0 else float("nan")

    def _progress(self, phase: Phase, message: str | None) -> Progress:
        head, speed = self.header, self.speed()
        known = self._kappas[np.isfinite(self._kappas)]
        return head.progress(
            phase=phase,
            step=self._step,
            committed=self.committed,
            temperature=self._temperature,
            energy_drift=self._drift,
            kappa_replicas=self._kappas,
            kappa=float(known.mean()) if len(known) else float("nan"),
            bytes_written=self.bytes_written,
            steps_per_second=speed,
            ns_per_day=speed * head.timestep * FEMTOSECONDS,
            seconds_left=(head.steps - self._step) / speed if speed > 0 else float("nan"),
            message=message,
            resumed_from=self.resumed_from,
            volume=self._volume,
        )
