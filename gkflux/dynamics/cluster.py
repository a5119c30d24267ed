"""A stage spread over the workers of a dask cluster.

Theory of operation. The replicas that are left are shared out, one batch a worker. Then
every batch is asked a few times a second how far it is (``remote.py``). When a worker is
lost, or more have come than there are batches, the batches that run are told to commit and
stop, and what is left is shared out anew: so the work of a worker that dies goes on
elsewhere from its last checkpoint. Nothing of a replica depends on its company, so the
files come out the same. The files are the only state: a run that was stopped goes on with
another number of workers, or with none.

Dask finds the workers and carries the questions; it never moves a batch by itself.
"""

import threading
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from uuid import uuid4

import stepson
from gkflux.dynamics.board import Board
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.files import open_file
from gkflux.dynamics.placed_batch import PlacedBatch, name_replicas
from gkflux.dynamics.remote import (
    Answer,
    Introduction,
    Job,
    Outcome,
    Recipe,
    introduce,
)
from gkflux.dynamics.stage import StageRun
from gkflux.errors import FluxError
from stepson.errors import WriterError

__all__ = ["Team"]

POLL = 0.1
"""Seconds between two rounds of questions."""
CENSUS = 1.0
"""Seconds between two looks at which workers there are."""
WAIT = 30.0
"""Seconds to wait for a first worker, or for another one when all are lost."""
SETTLE = 20.0
"""Seconds that a round lasts at least before a newcomer is worth a new one."""
FUTILE = 3
"""Rounds without any progress after which lost workers are an error."""


class Team:
    """The workers of a cluster, and what they do for a run."""

    def __init__(
        self, client: Any, context: RunContext, device: str, recipe: Recipe
    ) -> None:
        """Begin.

        Args:
            client: of dask, connected.
            context: of the run.
            device: on the workers.
            recipe: makes atoms and potential there.
        """
        self._client, self._context = client, context
        self._device, self._recipe = device, recipe
        self._known: dict[str, Introduction] = {}

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return str(self._client.scheduler.address)

    def compute(self, stage: StageRun, stop: threading.Event) -> tuple[bool, int]:
        """Run a stage to its end, or to a stop: see `StageRun.compute`.

        Raises:
            FluxError: a guard stopped a batch; no worker can be used, or all are lost.
            WriterError: a file is locked, or cannot be written.
        """
        stage.say_beforehand()
        board = Board(stage.header(stage.everyone))
        left, futile = stage.unfinished(), 0
        while left and not stop.is_set():
            board.finish(set(stage.everyone) - set(left), stage.config.steps)
            before = stage.saved_step()
            finished = self._round(stage, left, board, stop)
            left = [replica for replica in left if replica not in finished]
            futile = 0 if finished or stage.saved_step() > before else futile + 1
            if futile == FUTILE and not stop.is_set():
                raise FluxError(
                    f"stage {stage.config.name}: workers were lost {FUTILE} times without "
                    "any progress; look at their logs, memory may be short. The same "
                    "command goes on"
                )
        board.finish(set(stage.everyone) - set(left), stage.config.steps)
        if not left and stage.config.told.changes_cell:
            self._tell_volume(stage)
        self._send(board.progress(phase="stopped" if left else "finished"))
        return not left, stage.saved_step()

    def _round(
        self, stage: StageRun, left: Sequence[int], board: Board, stop: threading.Event
    ) -> set[int]:
        """Share out what is left, follow it; return the replicas that are finished."""
        workers = self._workers(stop)
        if not workers:
            return set()
        count = min(len(left), len(workers))
        cuts = [len(left) * k // count for k in range(count + 1)]
        batches = [
            PlacedBatch(self._client, worker, self._job(stage, left[cuts[k] : cuts[k + 1]]))
            for k, worker in enumerate(workers[:count])
        ]
        self._say(board, f"stage {stage.config.name}: {', '.join(map(str, batches))}")
        try:
            self._follow(batches, board, stop)
        finally:
            for batch in batches:
                batch.leave()
                board.remove(batch.job.token)
        outcomes = [(b, b.outcome) for b in batches if b.outcome is not None]
        for _, outcome in outcomes:
            self._account(stage, outcome)
        for batch, outcome in outcomes:
            if outcome.error is not None:
                kind = WriterError if outcome.kind == "writer" else FluxError
                raise kind(f"{outcome.error} (on {batch.worker})")
        return {k for b, outcome in outcomes if outcome.finished for k in b.job.replicas}

    def _job(self, stage: StageRun, replicas: Sequence[int]) -> Job:
        return Job(
            token=uuid4().hex,
            config=self._context.config,
            folder=self._context.folder,
            device=self._device,
            stage=stage.index,
            replicas=tuple(replicas),
            settings=stage.settings,
            recipe=self._recipe,
        )

    def _tell_volume(self, stage: StageRun) -> None:
        """Note in every file what no worker alone could know."""
        with ExitStack() as stack:
            writers = [stack.enter_context(open_file(path)) for path in stage.files]
            stage.tell_volume(writers)

    def _account(self, stage: StageRun, outcome: Outcome) -> None:
        context, name = self._context, stage.config.name
        context.computed += outcome.computed
        context.seconds += outcome.seconds
        if outcome.resumed is not None:
            context.resumed.setdefault(name, outcome.resumed)

    def _follow(
        self, batches: Sequence[PlacedBatch], board: Board, stop: threading.Event
    ) -> None:
        """Ask until every batch is over; stop them all as soon as there is a reason."""
        began = looked = time.monotonic()
        alive: Collection[str] = [batch.worker for batch in batches]
        end = False
        while running := [batch for batch in batches if batch.running]:
            now = time.monotonic()
            if now - looked > CENSUS:
                alive, looked = self._alive(), now
            for batch in running:
                batch.look(alive)
                if batch.lost:
                    self._say(
                        board,
                        f"{batch.worker} is lost; {name_replicas(batch.job.replicas)} go "
                        "on from the last checkpoint",
                    )
            newcomers = len(alive) > len(batches) and now - began > SETTLE
            shared = newcomers and any(len(b.job.replicas) > 1 for b in running)
            end = end or stop.is_set() or shared or any(b.ended_early for b in batches)
            for batch in running:
                self._hear(batch, batch.question(end), board)
            time.sleep(POLL)
        for batch in batches:
            if batch.outcome is not None:
                self._hear(batch, batch.outcome.last, board)
        for batch in batches:
            if batch.failure is not None:  # a bug: with the traceback of the worker
                raise batch.failure

    def _hear(self, batch: PlacedBatch, answer: Answer | None, board: Board) -> None:
        if answer is None:
            return
        for message in answer.messages:
            self._say(board, message)
        if answer.progress is not None:
            board.put(batch.job.token, answer.progress)
            self._send(board.progress())

    def _say(self, board: Board, message: str) -> None:
        self._context.messages.append(message)
        self._send(board.progress(message))

    def _send(self, progress: Any) -> None:
        if self._context.listener is not None:
            self._context.listener(progress)

    def _alive(self) -> Collection[str]:
        try:
            return set(self._client.nthreads())
        except (OSError, TimeoutError) as error:
            raise FluxError(
                f"the dask scheduler at {self.address} is gone; its workers have saved "
                "what they had. Start it again, and give the same command"
            ) from error

    def _workers(self, stop: threading.Event) -> list[str]:
        """Wait until there are workers that can be used; none only after a stop.

        Raises:
            FluxError: there is none, or none that can be used.
        """
        deadline = time.monotonic() + WAIT
        while not stop.is_set():
            there = sorted(self._alive())
            self._admit(there)
            usable = [worker for worker in there if self._usable(worker)]
            if usable:
                return usable
            if there:
                fault = self._known[there[0]].fault
                raise FluxError(f"no worker can be used: {there[0]}: {fault}")
            if time.monotonic() > deadline:
                raise FluxError(
                    f"there is no worker at the dask scheduler {self.address}; start some "
                    f"with `dask worker {self.address}`, and give the same command again"
                )
            time.sleep(POLL)
        return []

    def _usable(self, worker: str) -> bool:
        return worker in self._known and self._known[worker].fault is None

    def _admit(self, workers: Sequence[str]) -> None:
        """Ask those that are new who they are, and whether they see the folder."""
        new = [worker for worker in workers if worker not in self._known]
        if not new:
            return
        folder, word = self._context.folder, uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{word}"
        try:
            probe.write_text(word)
            found = self._client.run(introduce, probe, word, workers=new, on_error="return")
        finally:
            probe.unlink(missing_ok=True)
        for worker, answer in found.items():
            if not isinstance(answer, OSError):  # it has just gone; it will be asked again
                self._known[worker] = _judged(answer)


def _judged(answer: Introduction | Exception) -> Introduction:
    if isinstance(answer, Exception):
        return Introduction("", {}, f"gkflux cannot be imported there ({answer})")
    if answer.stepson != stepson.__version__ and answer.fault is None:
        here = stepson.__version__
        fault = f"it has stepson {answer.stepson}, and this is {here}; install the same"
        return replace(answer, fault=fault)
    return answer
