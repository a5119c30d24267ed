"""The loop of one stage: step, guard, sample, commit, tell; until the end or a stop.

The loop alone decides when to commit, at one step for all files of the batch: every
``commit_seconds`` of wall time, at the start steps of the next stage, when the waiting
frames fill the memory they are allowed, and at the end. Any step will do, because a
checkpoint holds the full state. The first commit after a start reconciles the files
(``recovery.py``); all later ones are left to the writer thread.
"""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from gkflux.dynamics.balance import BalanceError
from gkflux.dynamics.cell_guards import Escapes, LostAtomError
from gkflux.dynamics.checkpoint import Checkpoint, pack
from gkflux.dynamics.drift import Drift, DriftError
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.epochs import EpochThread, Note
from gkflux.dynamics.guards import Hops, UnstableError
from gkflux.dynamics.recording import Epoch, Recorder
from gkflux.dynamics.recovery import Restart
from gkflux.dynamics.reporting import Reporter

__all__ = ["Pace", "StageLoop"]

WAITING = 48 << 20
"""Bytes of all replicas that may wait; two more epochs can be under way to the disk."""


@dataclass(frozen=True)
class Pace:
    """When a stage commits and ends.

    Attributes:
        name: of the stage.
        steps: its length.
        timestep: fs.
        commit_seconds: wall time between commits.
        commit_steps: steps between commits at most, or None.
        commit_at: steps that must be committed: the next stage starts there.
    """

    name: str
    steps: int
    timestep: float
    commit_seconds: float = 30.0
    commit_steps: int | None = None
    commit_at: Collection[int] = ()


class StageLoop:
    """Runs one stage of a batch from where its files end."""

    def __init__(
        self,
        engine: Engine,
        recorder: Recorder,
        restart: Restart,
        drift: Drift,
        reporter: Reporter,
        pace: Pace,
        stop: threading.Event,
        hops: Hops | None = None,
        escapes: Escapes | None = None,
    ) -> None:
        """Put the parts together; nothing is computed yet."""
        self._engine, self._recorder, self._restart = engine, recorder, restart
        self._drift, self._reporter, self._pace = drift, reporter, pace
        self._stop, self._hops, self._escapes = stop, hops, escapes
        self._notes: list[Note] = []
        self._writers = [held.writer for held in restart.held]
        self._numbers = [held.replica for held in restart.held]
        self._thread: EpochThread | None = None
        self._committed_step = engine.state.step if restart.states is not None else -1
        self._committed_at = time.monotonic()

    @property
    def committed_step(self) -> int:
        """The last step that was committed, or handed over to be, in every file."""
        return max(self._committed_step, 0)

    def run(self) -> bool:
        """Compute until the end (True) or until a stop was asked for (False).

        Everything that may be committed is durable when this returns or raises.

        Raises:
            FluxError: a guard stopped the run; the good frames are kept.
            WriterError: a file cannot be written.
        """
        try:
            finished = self._steps()
        except (DriftError, LostAtomError):
            self._commit_if_allowed()
            self._close()
            raise
        except (UnstableError, BalanceError) as error:
            self._keep_good_frames(error.step)
            self._close()
            raise
        else:
            self._reporter.send("committing", step=self._engine.state.step)
            self._commit_if_allowed()
            self._close()
            return finished
        finally:
            if self._thread is not None:
                self._thread.stop()

    def _steps(self) -> bool:
        engine, pace, stop, recorder = self._engine, self._pace, self._stop, self._recorder
        state, clock = engine.state, time.monotonic
        engine.begin()
        if state.step == 0:
            self._sample(recorder.due(0))
        while state.step < pace.steps:
            if stop.is_set():
                return False
            engine.step()
            if due := recorder.due(state.step):
                self._sample(due)
            if state.step <= self._restart.until:
                self._catch_up()
            now = clock()
            if self._commit_due(now):
                self._commit(now)
            if self._reporter.due(now):
                self._tell(now)
        return True

    def _sample(self, due: tuple[str, ...]) -> None:
        engine, step = self._engine, self._engine.state.step
        values = engine.measure(due)
        self._recorder.put(step, values)
        if self._reporter.kappa is not None and "heat_flux" in due:
            self._reporter.kappa.add(values["heat_flux"])
        if "energy" in due and self._drift.add(step, engine.steady()):
            self._judge(step)

    def _judge(self, step: int) -> None:
        """Look at what changes slowly, twice a picosecond."""
        warning = self._drift.judge(step)
        if warning is not None:
            self._reporter.say(warning)
        positions = self._engine.state.positions
        for line in () if self._escapes is None else self._escapes.look(step, positions):
            self._reporter.say(line)
        if self._hops is None:
            return
        for replica, hop in self._hops.look(step, positions):
            self._reporter.say(
                f"step {step}, replica {self._numbers[replica]}: atom {hop['atom']} has "
                "left its site; the lattice gauge of the heat flux does not fit any more"
            )
            self._notes.append((replica, {"hop": hop}))

    def _catch_up(self) -> None:
        """Let files that are ahead have the last word about their own state."""
        said = len(self._restart.messages)
        if self._restart.adopt(self._engine.state):
            self._engine.begin()
        for message in self._restart.messages[said:]:
            self._reporter.say(message)

    def _commit_due(self, now: float) -> bool:
        step, pace = self._engine.state.step, self._pace
        if step < self._restart.until:
            return False
        if step == self._restart.until or step in pace.commit_at:
            return True
        if self._recorder.bytes_waiting >= WAITING:
            return True
        if pace.commit_steps and step - self._committed_step >= pace.commit_steps:
            return True
        late = now - self._committed_at >= pace.commit_seconds
        return late and not (self._thread is not None and self._thread.busy)

    def _commit(self, now: float) -> None:
        state = self._engine.state
        if state.step == self._committed_step:
            return
        epoch = self._recorder.take()
        checkpoints = pack(state, self._drift, self._pace.name, self._hops)
        notes, self._notes = self._notes, []
        if self._thread is None:
            self._first_commit(epoch, checkpoints, notes)
            self._thread = EpochThread(self._writers, state.step)
        else:
            self._thread.submit(state.step, epoch, checkpoints, notes)
        self._committed_step, self._committed_at = state.step, now

    def _first_commit(
        self, epoch: Epoch, checkpoints: list[Checkpoint] | None, notes: list[Note]
    ) -> None:
        said = len(self._restart.messages)
        for replica, content in notes:
            self._writers[replica].note(content)
        self._restart.reconcile(epoch, checkpoints)
        for message in self._restart.messages[said:]:
            self._reporter.say(message)

    def _commit_if_allowed(self) -> None:
        if self._engine.state.step >= self._restart.until:
            self._commit(time.monotonic())

    def _keep_good_frames(self, failed: int) -> None:
        """Commit the frames before a failed step; the last checkpoint stays what it was."""
        if failed <= self._restart.until:
            return
        epoch, notes = self._recorder.take(), self._notes
        if self._thread is None:
            self._first_commit(epoch, None, notes)
        else:
            self._thread.submit(failed - 1, epoch, None, notes)

    def _close(self) -> None:
        if self._thread is not None:
            self._thread.close()
            self._note_progress(self._thread)

    def _tell(self, now: float) -> None:
        if self._thread is not None:
            self._note_progress(self._thread)
        slope, _ = self._drift.slope()
        step = self._engine.state.step
        engine = self._engine
        self._reporter.update(now, step, engine.temperature(), slope, engine.volume())

    def _note_progress(self, thread: EpochThread) -> None:
        self._reporter.committed = thread.committed
        self._reporter.bytes_written = thread.bytes_written
