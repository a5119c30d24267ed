"""Where replicas start: at states of the stage before, or at drawn velocities.

From a stage of one replica and N steps, R replicas start at N - (R - 1 - r) spacing; the
spacing is floor(N / 2R) by default, so that they stem from the second half. Those steps are
commit steps of that stage, and their checkpoints are found by step. A stage that was
appended later may ask for other steps: then the state is computed again from the nearest
checkpoint before it, to the same bits. From a stage of R replicas each goes on from its own
last state.

After a stage at constant pressure, replicas at constant volume all get its mean cell: that
of the structure, scaled to the mean volume of the second half of the stage. Positions move
with the cell. Another stage at constant pressure goes on with the cell of the moment.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gkflux.dynamics.cell_rescaling import cube_root
from gkflux.dynamics.checkpoint import Checkpoint, batch_state
from gkflux.dynamics.config import StageConfig
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.mean_volume import mean_volume
from gkflux.dynamics.state import Floats, State, remove_momentum, volumes
from gkflux.errors import FluxError
from gkflux.system import System
from stepson import Trajectory
from stepson import open as open_son
from stepson.errors import FormatError, SchemaError

__all__ = ["Start", "Stopped", "chain_starts", "files_of", "start_steps"]


@dataclass(frozen=True)
class Start:
    """The start of one replica.

    Attributes:
        positions: shape ``(n, 3)``, Å.
        velocities: shape ``(n, 3)``, Å/fs.
        source: ``{uuid, step, file}`` of the stage before; empty for the first stage.
        cell: shape ``(3, 3)``, Å; None for a cluster.
    """

    positions: Floats
    velocities: Floats
    source: dict[str, Any]
    cell: Floats | None = None


class Stopped(Exception):
    """A stop was asked for before a stage could start."""


class EngineAt(Protocol):
    """Makes an engine of the stage before, for the state of one of its replicas."""

    def __call__(self, state: State, replica: int) -> Engine:
        """Return the engine; its forces are not computed yet."""


def files_of(folder: Path, stage: StageConfig) -> list[Path]:
    """Return the files of a stage, one a replica."""
    if stage.replicas == 1:
        return [folder / stage.name / "md.son"]
    return [folder / stage.name / f"{k:02d}" / "md.son" for k in range(stage.replicas)]


def start_steps(stage: StageConfig, before: StageConfig) -> list[int]:
    """Return at which step of the stage before each replica of a stage starts."""
    count, end = stage.replicas, before.steps
    if before.replicas > 1:
        return [end] * count
    spacing = stage.starts.spacing
    spacing = end // (2 * count) if spacing is None else spacing
    return [end - (count - 1 - k) * spacing for k in range(count)]


def chain_starts(
    stage: StageConfig,
    before: StageConfig,
    folder: Path,
    system: System,
    engine_at: EngineAt,
    stop: threading.Event,
    replicas: Sequence[int],
) -> list[Start]:
    """Read, or compute again, the states from which replicas of a stage start.

    Args:
        stage: the one that starts.
        before: the one that is finished.
        folder: of the run.
        system: the structure of the run.
        engine_at: an engine of the stage before, for the state of one replica of it.
        stop: set it to give up.
        replicas: the numbers of those that are asked for.

    Raises:
        Stopped: `stop` was set while a state was computed again.
        FluxError: the stage before has no state to start from.
    """
    starts = []
    files, steps = files_of(folder, before), start_steps(stage, before)
    mean = None
    if before.told.changes_cell and not stage.told.changes_cell:
        mean = mean_volume(files, before.steps)
    for k in replicas:
        step = steps[k]
        source = k if before.replicas > 1 else 0
        with open_son(files[source]) as trajectory:
            found = _state_at(trajectory, step, partial(engine_at, replica=source), stop)
            place = str(files[source].relative_to(folder))
            about = {"uuid": trajectory.uuid, "step": step, "file": place}
        velocities = np.array(found["velocities"], dtype=np.float64)
        if stage.told.conserves_momentum:
            remove_momentum(velocities[None], system.masses)
        positions, cell = np.array(found["positions"]), found.get("cell", system.cell)
        if mean is not None:
            about["mean_volume"] = mean.facts
            positions, cell = _resized(positions, np.array(cell), system, mean.volume)
        starts.append(Start(positions, velocities, about, cell))
    return starts


def _resized(
    positions: Floats, cell: Floats, system: System, volume: float
) -> tuple[Floats, Floats]:
    """Return positions and cell at this volume: the cell is the same to the last bit."""
    assert system.cell is not None
    own, first = volumes(np.stack([cell, system.cell]))
    scale, whole = cube_root(volume / own), cube_root(volume / first)
    return positions * scale, np.asarray(system.cell * whole)


def _state_at(
    trajectory: Trajectory,
    step: int,
    engine_at: Callable[[State], Engine],
    stop: threading.Event,
) -> Checkpoint:
    """Return the state of a step: its checkpoint, or computed from the one before it."""
    for earlier in range(step, -1, -1):
        try:
            found = dict(trajectory.checkpoint(earlier))
        except (FormatError, SchemaError):
            continue
        if earlier == step:
            return found
        return _advanced(found, step, engine_at(batch_state([found])), stop)
    raise FluxError(
        f"{trajectory.path} has no checkpoint at or before step {step}; remove the file to "
        "compute the stage again"
    )


def _advanced(
    found: Checkpoint, step: int, engine: Engine, stop: threading.Event
) -> Checkpoint:
    engine.begin()
    while engine.state.step < step:
        if stop.is_set():
            raise Stopped
        engine.step()
    state = engine.state
    return {
        **found,
        "positions": state.positions[0],
        "velocities": state.velocities[0],
        "cell": None if state.cells is None else state.cells[0],
    }
