"""A thread that does what a writer hands it, in order, and remembers what went wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from threading import Thread

from stepson.errors import StepsonError, WriterError

__all__ = ["Worker"]

WAITING = 2
Task = Callable[[], object]


class Worker:
    """Runs tasks in order, in a thread or at once; keeps the first error."""

    def __init__(self, threaded: bool) -> None:
        self._queue: Queue[Task | None] = Queue(WAITING)
        self._error: BaseException | None = None
        self._thread: Thread | None = None
        if threaded:
            self._thread = Thread(target=self._work, name="stepson-writer", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        task = self._queue.get()
        while task is not None:
            self._run(task)
            self._queue.task_done()
            task = self._queue.get()
        self._queue.task_done()

    def _run(self, task: Task) -> None:
        if self._error is None:
            try:
                task()
            except BaseException as error:
                self._error = error

    def do(self, task: Task) -> None:
        """Queue a task; waits while two are waiting."""
        self.check()
        try:
            with self.undivided():
                if self._thread is None:
                    task()
                else:
                    self._queue.put(task)
        except Exception:
            self.check()
            raise

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """Let no part of this be done without the rest, unnoticed.

        Ctrl-C between taking frames and queueing them would lose them in the middle of the
        file; so whatever interrupts it is the end of the writer.
        """
        try:
            yield
        except BaseException as error:
            self._error = self._error or error
            raise

    def wait(self) -> None:
        """Return when everything queued was done, or raise what it raised."""
        self._queue.join()
        self.check()

    def check(self) -> None:
        """Raise what a task has raised."""
        if self._error is None:
            return
        if isinstance(self._error, StepsonError):
            raise self._error
        if isinstance(self._error, Exception):
            raise WriterError(f"writing failed: {self._error!r}") from self._error
        raise WriterError(
            f"writing was interrupted by {type(self._error).__name__}; "
            "open the file with mode 'a' to go on after its last commit"
        ) from self._error

    def stop(self) -> None:
        """Finish what is queued, then end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
