"""One batch on one worker of a cluster, as seen by whoever started the run.

Its task is bound to the worker, so it ends in one of four ways: with an outcome, with a bug
(the exception of the worker), lost with its worker, or left behind.
"""

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from gkflux.dynamics.remote import Answer, Job, Outcome, ask, work

__all__ = ["PlacedBatch", "name_replicas"]

WAIT = 30.0
"""Seconds that the outcome of a finished task may take to arrive."""


class PlacedBatch:
    """One batch, where it runs, and how it ended."""

    def __init__(self, client: Any, worker: str, job: Job) -> None:
        """Hand the batch to its worker: it begins.

        Args:
            client: of dask, connected.
            worker: its address.
            job: the batch.
        """
        self.worker, self.job = worker, job
        self.outcome: Outcome | None = None
        self.lost = False
        self.failure: BaseException | None = None
        self._client = client
        self._question: Future[Any] | None = None
        self._task: Any = client.submit(
            work, job, workers=[worker], pure=False, retries=0, key=f"batch-{job.token}"
        )

    def __str__(self) -> str:
        return f"{name_replicas(self.job.replicas)} on {self.worker}"

    @property
    def running(self) -> bool:
        """Whether it is not over in any way."""
        return self.outcome is None and self.failure is None and not self.lost

    @property
    def ended_early(self) -> bool:
        """Whether it is over, and not finished."""
        return not self.running and (self.outcome is None or not self.outcome.finished)

    def look(self, alive: Collection[str]) -> None:
        """See how its task is."""
        status = self._task.status
        if status == "error":
            self.failure = self._task.exception()
        elif status == "finished":
            try:
                self.outcome = self._task.result(timeout=WAIT)
            except (OSError, TimeoutError):
                self.lost = True
        elif status != "pending" or self.worker not in alive:
            self.lost = True

    def question(self, stop: bool) -> Answer | None:
        """Ask again as soon as it has answered, and return what it has told."""
        asked, answer = self._question, None
        if asked is not None:
            if not asked.done():
                return None
            with suppress(Exception):  # a question that is lost with its worker
                answer = asked.result().get(self.worker)
        asking = self._client.run(
            ask,
            self.job.token,
            stop,
            workers=[self.worker],
            on_error="return",
            asynchronous=True,
        )
        loop = self._client.loop.asyncio_loop
        self._question = asyncio.run_coroutine_threadsafe(asking, loop)
        return answer if isinstance(answer, Answer) else None

    def leave(self) -> None:
        """Forget the task."""
        with suppress(Exception):  # the scheduler may be gone
            self._task.cancel() if self.running or self.lost else self._task.release()


def name_replicas(replicas: Sequence[int]) -> str:
    """Name replicas: "replicas 0 to 3"."""
    if len(replicas) == 1:
        return f"replica {replicas[0]}"
    if list(replicas) == list(range(replicas[0], replicas[-1] + 1)):
        return f"replicas {replicas[0]} to {replicas[-1]}"
    return f"replicas {', '.join(map(str, replicas))}"
