"""A batch: replicas of a stage that run together, their files, their start, their loop.

One batch holds all replicas of a stage; on several machines there are several. The protocol
of epochs (``epochs.py``, ``recovery.py``) is kept by each batch alone. So after a stop, or
with another number of machines, files of one batch may stand at different steps. They are
sorted into groups, each with a checkpoint in common; every group catches up alone to the
last step that any file holds, and from there all run together. A replica gets the same bits
in any company.

The order at the start matters for crashes. The locks of all files that exist are taken
before any is read; then the missing ones are created, each holding the start state as its
first checkpoint; then the loop begins. Whatever is killed in between is found again in the
same way: a batch goes on from what its files hold, and from the start of the stage where
they hold nothing.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gkflux.dynamics.cell_guards import Escapes
from gkflux.dynamics.checkpoint import batch_state, pack
from gkflux.dynamics.context import first_starts, make_engine
from gkflux.dynamics.drift import Drift
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.files import create_file, note_continuation, open_file
from gkflux.dynamics.guards import Hops
from gkflux.dynamics.live_kappa import LiveKappa
from gkflux.dynamics.loop import Pace, StageLoop
from gkflux.dynamics.provenance import environment, stage_metadata
from gkflux.dynamics.recording import Recorder
from gkflux.dynamics.recovery import Held, Restart, find_restart, sort_into_groups
from gkflux.dynamics.replicas import Start, Stopped, chain_starts, start_steps
from gkflux.dynamics.reporting import Reporter
from gkflux.dynamics.state import Floats, State
from gkflux.errors import FluxError
from stepson import Writer

if TYPE_CHECKING:
    from gkflux.dynamics.stage import StageRun

__all__ = ["BatchRun"]

GLANCE = 1 << 17
"""Flux samples that are read again after a restart, for the glance at kappa."""


class BatchRun:
    """Some replicas of one stage, from wherever their files end."""

    def __init__(
        self, stage: "StageRun", replicas: Sequence[int], *, alone: bool = True
    ) -> None:
        """Prepare; nothing is opened or computed.

        Args:
            stage: what the stage is.
            replicas: numbers of those that run here.
            alone: nobody else looks after the stage as a whole.
        """
        self._alone = alone
        self._stage, self._context, self._config = stage, stage.context, stage.config
        self.replicas = tuple(replicas)
        self.files = [stage.files[k] for k in self.replicas]
        self._held: list[Held | None] = []
        self._system, self._flux = stage.system, stage.flux
        self._reporter = stage.reporter(self.replicas)

    def compute(self, stop: threading.Event) -> tuple[bool, int]:
        """Run to the end of the stage, or to a stop.

        Returns:
            Whether it is finished, and the last step that all files hold.

        Raises:
            FluxError: a guard stopped it; the good frames are kept.
            WriterError: a file is locked, or cannot be written.
        """
        self._reporter.send("starting")
        with ExitStack() as stack:
            self._open(stack)
            finished = self._advance_all(stack, stop)
            if finished:
                self._tell_volume()
                for held in self._held:
                    if held is not None:
                        held.writer.close()
        self._check_place()
        step = self._config.steps if finished else self._step
        self._reporter.send("finished" if finished else "stopped", step=step)
        return finished, step

    def _open(self, stack: ExitStack) -> None:
        """Lock what exists, then read it."""
        for number, path in zip(self.replicas, self.files, strict=True):
            writer = open_file(path) if path.exists() else None
            if writer is not None:
                stack.callback(writer.abandon)
                note_continuation(
                    writer, self._environment, self._config.steps, self._reporter
                )
            self._held.append(None if writer is None else Held.of(writer, number))

    @property
    def _step(self) -> int:
        """The last step for which every file has a checkpoint."""
        return max(0, min(-1 if held is None else held.latest for held in self._held))

    def _advance_all(self, stack: ExitStack, stop: threading.Event) -> bool:
        """Bring all groups to one step, then run together; False after a stop."""
        places = list(range(len(self.replicas)))
        groups = sort_into_groups(self._held)
        if len(groups) > 1:
            goal = max(held.until for held in self._held if held is not None)
            for group in groups:
                self._say_who_catches_up(group, goal)
                if not self._advance(group, goal, stack, stop):
                    return False
        return self._advance(places, self._config.steps, stack, stop)

    def _say_who_catches_up(self, group: Sequence[int], goal: int) -> None:
        held = [self._held[place] for place in group]
        missing = held.count(None)
        if missing:
            self._reporter.say(
                f"{missing} of {len(self.files)} files are missing: these replicas are "
                f"computed from the start of the stage, and catch up alone to step {goal}",
                "starting",
            )
            return
        for each in held:
            if each is not None and each.latest < goal:
                self._reporter.say(
                    f"{each.writer.path} holds no state after step {max(each.latest, 0)}: "
                    f"it catches up alone to step {goal}",
                    "starting",
                )

    def _advance(
        self, places: Sequence[int], goal: int, stack: ExitStack, stop: threading.Event
    ) -> bool:
        """Run a group to a step, with a commit there; False after a stop."""
        numbers = [self.replicas[place] for place in places]
        reporter = self._reporter = self._stage.reporter(numbers)
        restart = find_restart([self._held[place] for place in places])
        try:
            state, starts = self._begin(restart, numbers, stop)
        except Stopped:
            return False
        if not self._config.told.changes_cell and state.cells is not None:
            self._system, self._flux = self._stage.within(state.cells[0])
        engine = make_engine(
            self._context, self._stage.index, state, numbers, flux=self._flux
        )
        hops, drift = self._hops(len(numbers)), self._drift(numbers)
        first = pack(state, drift, self._config.name, hops)
        for k, place in enumerate(places):
            if self._held[place] is None:
                writer = self._create(stack, place, starts[k], first[k])
                self._held[place] = Held.of(writer, numbers[k])
        restart.held = [held for p in places if (held := self._held[p]) is not None]
        self._tell_restart(restart, reporter)
        finished = self._loop(engine, restart, (drift, hops), goal, stop)
        for place, held in zip(places, restart.held, strict=True):
            self._held[place] = held.again()
        return finished

    def _begin(
        self, restart: Restart, numbers: Sequence[int], stop: threading.Event
    ) -> tuple[State, list[Start]]:
        """Return the state to begin with, and the starts of the stage where it is those."""
        if restart.states is not None:
            return batch_state(restart.states), []
        starts = self._starts(numbers, stop)
        state = State.at_rest(
            np.stack([start.positions for start in starts]),
            np.stack([start.velocities for start in starts]),
            cells=_stacked([start.cell for start in starts]),
        )
        return state, starts

    def _starts(self, numbers: Sequence[int], stop: threading.Event) -> list[Start]:
        """Return the starts of some replicas, drawn, read or computed again."""
        context, index = self._context, self._stage.index
        if index == 0:
            everyone = first_starts(context)
            return [everyone[number] for number in numbers]

        def earlier(state: State, replica: int) -> Engine:
            self._reporter.say(
                f"stage {self._config.name}: a start state is computed again from step "
                f"{state.step} of the stage before",
                "starting",
            )
            return make_engine(context, index - 1, state, [replica])

        before, system = context.config.stage[index - 1], self._stage.system
        return chain_starts(
            self._config, before, context.folder, system, earlier, stop, numbers
        )

    def _create(
        self, stack: ExitStack, place: int, start: Start, checkpoint: dict[str, Any]
    ) -> Writer:
        """Create the file of a replica, with the start state as its first checkpoint."""
        stage = self._stage
        about = stage_metadata(
            self._context.config,
            stage.index,
            stage.system,
            self._context.ingredients.provenance,
            stage.flux,
            freedom=stage.freedom,
            target=stage.target,
        )
        about |= {"replica": self.replicas[place], "start": start.source}
        about |= self._context.ensemble(stage.index).parameters
        if self._flux is not None and self._flux.lattice is not None:
            about["lattice"] = self._flux.lattice
        writer = create_file(
            self.files[place],
            stage.fields(),
            self._system.moved(self._system.positions, start.cell),
            timestep=self._config.timestep,
            metadata=about | self._environment,
            checkpoint=checkpoint,
        )
        stack.callback(writer.abandon)
        return writer

    def _loop(
        self,
        engine: Engine,
        restart: Restart,
        guards: tuple[Drift, Hops | None],
        goal: int,
        stop: threading.Event,
    ) -> bool:
        drift, hops = guards
        if restart.states is not None:
            drift.restore(np.stack([state["drift"] for state in restart.states]))
            if hops is not None:
                hops.first = [state.get("hop") for state in restart.states]
        n_atoms = self._stage.system.n_atoms
        recorder = Recorder(self._stage.fields(), len(restart.held), n_atoms)
        reporter, pace = self._reporter, self._pace(goal)
        cutoff = self._context.ingredients.potential.cutoff
        escapes = Escapes.of(self._system, cutoff, engine.numbers)
        loop = StageLoop(
            engine, recorder, restart, drift, reporter, pace, stop, hops, escapes
        )
        first, began = engine.state.step, time.monotonic()
        try:
            return loop.run()
        finally:
            self._context.seconds += time.monotonic() - began
            self._context.computed += engine.state.step - first

    def _drift(self, numbers: Sequence[int]) -> Drift:
        return Drift(
            replicas=len(numbers),
            n_atoms=self._stage.system.n_atoms,
            timestep=self._config.timestep,
            steps=self._config.steps,
            target=self._stage.target,
            numbers=numbers,
        )

    def _hops(self, replicas: int) -> Hops | None:
        if self._flux is None or self._flux.lattice is None:
            return None
        return Hops(self._system, self._flux.lattice, replicas)

    def _pace(self, goal: int) -> Pace:
        run, index = self._context.config, self._stage.index
        after = run.stage[index + 1 : index + 2]
        return Pace(
            name=self._config.name,
            steps=goal,
            timestep=self._config.timestep,
            commit_seconds=run.output.commit_seconds,
            commit_steps=run.output.commit_steps,
            commit_at={
                step for stage in after for step in start_steps(stage, self._config)
            },
        )

    @cached_property
    def _environment(self) -> dict[str, Any]:
        return environment(self._context.ingredients.device)

    def _tell_restart(self, restart: Restart, reporter: Reporter) -> None:
        for message in restart.messages:
            reporter.say(message, "starting")
        reporter.bytes_written = sum(held.writer.bytes_written for held in restart.held)
        if restart.states is not None and restart.until > 0:
            reporter.resumed_from = reporter.committed = restart.step
            self._context.resumed.setdefault(self._config.name, restart.step)
            reporter.send("starting", step=restart.step)
        self._prepare_kappa(restart, reporter)

    def _prepare_kappa(self, restart: Restart, reporter: Reporter) -> None:
        """Feed the glance at kappa with the flux that the files hold already."""
        flux = self._config.heat_flux
        if flux is None or self._config.ensemble != "nve":
            return
        kappa = reporter.kappa = LiveKappa(
            replicas=len(restart.held),
            timestep=flux.every * self._config.timestep,
            volume=self._system.volume,
            temperature=self._stage.target,
        )
        if restart.states is not None and restart.step > 0:
            end = restart.step // flux.every + 1
            some = slice(max(0, end - GLANCE), end)
            columns = [h.writer.trajectory()["heat_flux"][some] for h in restart.held]
            kappa.begin(np.stack(columns))

    def _tell_volume(self) -> None:
        """The mean volume is that of all replicas: one of many batches does not know it."""
        if self._alone:
            self._stage.tell_volume([h.writer for h in self._held if h is not None])

    def _check_place(self) -> None:
        """A folder may be moved while its files are written: they go with it."""
        gone = [path for path in self.files if not path.exists()]
        if gone and any(held is not None for held in self._held):
            raise FluxError(
                f"{gone[0]} is no longer there, the folder was moved or deleted during the "
                "run; what was saved is where it is now: go on there with -o"
            )


def _stacked(cells: Sequence[Floats | None]) -> Floats | None:
    """Put the cells of replicas together; None for clusters."""
    given = [cell for cell in cells if cell is not None]
    return np.stack(given) if given else None
