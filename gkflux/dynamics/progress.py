"""What a run tells the outside: `Progress` while it goes on, `RunSummary` at its end.

Both are plain data. The dynamics never prints: whoever wants to see a run passes a function
that takes a `Progress`; it is called from the loop itself, so it must return quickly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Listener", "Phase", "Progress", "RunSummary"]

Phase = Literal["starting", "running", "committing", "finished", "stopped"]


@dataclass(frozen=True)
class Progress:
    """The state of a run, sent a few times a second, at stage changes and at events.

    Attributes:
        phase: ``starting`` (reading, compiling, recomputing a start state), ``running``,
            ``committing`` (waiting for the disk), ``finished`` (this stage), ``stopped``.
        stage: name of the stage.
        stage_index: its number, from 0.
        stage_count: stages in the configuration.
        ensemble: for a header: ``nve``, ``langevin``, ``csvr``, ``npt at 0 GPa``.
        step: the last step computed; ``committed`` is the last one that is on the disk.
        committed: the last step that no crash can take back; -1 before the first commit.
        steps: steps of this stage.
        timestep: fs.
        replicas: how many run together, a row each.
        n_atoms: atoms of one replica.
        system: for a header, such as ``Zr32O64, 96 atoms``.
        potential: for a header, such as ``model_n2.torch, schnet, float32, cpu``.
        target: target temperature, K.
        temperature: shape ``(replicas,)``, K; nan until it is known.
        energy_drift: shape ``(replicas,)``, drift of the conserved quantity as a
            temperature, K/ns; nan until a fit is possible (``drift.Drift``).
        kappa_replicas: shape ``(replicas,)``, thermal conductivity so far, W/(m K), or nan.
        kappa: of all replicas together, or nan. A glance, not a result: `gkflux.GreenKubo`.
        bytes_written: size of the files of this stage.
        steps_per_second: of the batch, over the last seconds; nan before.
        ns_per_day: simulated time of one replica per day of wall time, or nan.
        seconds_left: in this stage, at the present speed, or nan.
        message: one line worth showing (a warning, an event), or None.
        resumed_from: the step at which this stage was taken up again, or None.
        numbers: of the replicas in the stage, row by row; empty: 0, 1, 2 ...
        volume: shape ``(replicas,)``, Å³, where it fluctuates (npt) and once it is
            known; else None.
        reached: shape ``(replicas,)``, the step of each where they are computed in several
            places; empty where all are at ``step``.
    """

    phase: Phase
    stage: str
    stage_index: int
    stage_count: int
    ensemble: str
    step: int
    committed: int
    steps: int
    timestep: float
    replicas: int
    n_atoms: int
    system: str
    potential: str
    target: float
    temperature: NDArray[np.float64]
    energy_drift: NDArray[np.float64]
    kappa_replicas: NDArray[np.float64]
    kappa: float
    bytes_written: int
    steps_per_second: float
    ns_per_day: float
    seconds_left: float
    message: str | None = None
    resumed_from: int | None = None
    numbers: tuple[int, ...] = ()
    reached: tuple[int, ...] = ()
    volume: NDArray[np.float64] | None = None

    @property
    def time(self) -> float:
        """Simulated time in this stage, ps."""
        return self.step * self.timestep * 1e-3


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class RunSummary:
    """What a call of `run` has done.

    Attributes:
        folder: where the files are.
        files: every trajectory of the configuration that exists, in order.
        finished: every stage has all of its steps.
        interrupted: the caller's `stop` was set; the same command goes on from here.
        already_finished: there was nothing to do.
        stage: the stage that was reached.
        step: the step that was reached in it, all of it committed.
        steps: the steps of that stage.
        steps_computed: by this call, in all stages.
        resumed_from: ``{stage: step}`` for each stage that was taken up in the middle.
        bytes_written: size of all files together.
        seconds: wall time in the steps (without imports and compilation).
        messages: every line that was sent as `Progress.message`.
    """

    folder: Path
    files: tuple[Path, ...]
    finished: bool
    interrupted: bool
    already_finished: bool
    stage: str
    step: int
    steps: int
    steps_computed: int
    resumed_from: dict[str, int]
    bytes_written: int
    seconds: float
    messages: tuple[str, ...]

    def __str__(self) -> str:
        if self.already_finished:
            state = "finished before"
        else:
            state = "finished" if self.finished else "stopped"
        return (
            f"{state}: stage {self.stage}, step {self.step} of {self.steps}, "
            f"{len(self.files)} files, {self.bytes_written / 1e6:.1f} MB in {self.folder}"
        )
