"""The files of a batch, and the one thread that writes them.

The invariant on which restarts rest: epoch k is durable in every file of the batch before
anything of epoch k + 1 is written to any. Files therefore never differ by more than one
epoch. One thread does all the writing; the loop hands over an epoch and goes on, and waits
only when two are under way.
"""

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gkflux.dynamics.checkpoint import Checkpoint
from gkflux.dynamics.recording import Epoch
from stepson import Writer

__all__ = ["EpochThread", "Note", "write_epoch", "write_frames"]

Note = tuple[int, dict[str, Any]]
"""A replica, and what is to be written down in its file."""


def write_frames(writer: Writer, epoch: Epoch, replica: int) -> None:
    """Append what a replica has in an epoch; nothing is durable yet."""
    steps = epoch.steps
    if len(steps):
        writer.extend(steps, **epoch.fields(replica))


def write_epoch(
    writer: Writer, epoch: Epoch, replica: int, checkpoint: Checkpoint | None
) -> None:
    """Make one transaction of a replica's epoch, and wait until it is durable."""
    write_frames(writer, epoch, replica)
    if checkpoint is not None:
        writer.checkpoint(checkpoint)
    writer.commit(wait=True)


@dataclass(frozen=True)
class _Job:
    step: int
    epoch: Epoch
    checkpoints: Sequence[Checkpoint] | None
    notes: Sequence[Note]


class EpochThread:
    """Writes epochs in order, while the loop computes the next ones.

    Attributes:
        committed: last step that is durable in every file.
        bytes_written: size of all files.
    """

    def __init__(self, writers: Sequence[Writer], committed: int) -> None:
        """Start the thread.

        Args:
            writers: one a replica, used by nobody else until `close`.
            committed: last step that is durable in every file now.
        """
        self.committed = committed
        self._writers = writers
        self.bytes_written = sum(writer.bytes_written for writer in writers)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="epochs", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether the next `submit` has to wait."""
        return self._jobs.full()

    def submit(
        self,
        step: int,
        epoch: Epoch,
        checkpoints: Sequence[Checkpoint] | None,
        notes: Sequence[Note] = (),
    ) -> None:
        """Hand over an epoch; waits while two are under way.

        Args:
            step: its last one.
            epoch: the samples.
            checkpoints: the states at `step`; None after a failure.
            notes: events worth keeping.

        Raises:
            WriterError: an earlier epoch could not be written.
        """
        self._check()
        self._jobs.put(_Job(step, epoch, checkpoints, notes))

    def stop(self) -> None:
        """Write what was handed over, as far as that is possible, and end the thread."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    def close(self) -> None:
        """Wait until everything handed over is durable, and end the thread.

        Raises:
            WriterError: something could not be written.
        """
        self.stop()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is not None:
                continue  # a file that failed is never written to again
            try:
                self._write(job)
            except BaseException as error:
                self._error = error

    def _write(self, job: _Job) -> None:
        for replica, content in job.notes:
            self._writers[replica].note(content)
        for replica, writer in enumerate(self._writers):
            checkpoint = None if job.checkpoints is None else job.checkpoints[replica]
            write_epoch(writer, job.epoch, replica, checkpoint)
        self.committed = job.step
        self.bytes_written = sum(writer.bytes_written for writer in self._writers)
