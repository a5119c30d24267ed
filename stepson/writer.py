"""Writing a `.son`: frames in, transactions out.

Theory of operation. `append` copies a frame into a `FrameBuffer`. When the buffer makes a
block it is handed to a thread that encodes, writes and syncs, while the caller fills the
next one; at most two blocks wait, then the caller does. With ``commit="auto"`` every block
is a transaction of its own, and one is closed after ``commit_seconds`` at the latest. With
``commit="manual"`` the caller's `commit` ends a transaction with everything appended since
the last one and the checkpoint handed in since; full blocks are written before that, but
are visible only with it. What the thread cannot do surfaces as a `WriterError` at the next
call; after that the writer only closes.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from stepson.buffer import FrameBuffer
from stepson.errors import SchemaError, WriterError
from stepson.records import RecordType
from stepson.scan import read_record
from stepson.schema import Field
from stepson.source import insist
from stepson.transaction import Appender
from stepson.tree import pack_tree, unpack_checkpoint
from stepson.worker import Worker

__all__ = ["Writer"]


class Writer:
    """An open file that grows; `stepson.create` and ``stepson.open(path, "a")`` make one.

    A context manager: leaving it closes and seals the file. When an exception passes
    through, what was committed stays, frames not yet handed over are dropped, and no FOOTER
    is written.
    """

    def __init__(
        self,
        path: Path,
        appender: Appender,
        *,
        opener: Callable[[Path], Any],
        on_close: Callable[[], None] = lambda: None,
        commit: Literal["auto", "manual"] = "auto",
        commit_seconds: float = 30.0,
        threaded: bool = True,
    ) -> None:
        if commit not in ("auto", "manual"):
            raise SchemaError(f"commit is 'auto' or 'manual', not {commit!r}")
        given: object = commit_seconds
        if not isinstance(given, (int, float)) or not given >= 0:
            raise SchemaError(
                f"commit_seconds is a number of seconds from 0 on, not {commit_seconds!r}"
            )
        self.path = path
        self._appender = appender
        self._opener = opener
        self._on_close = on_close
        self._auto = commit == "auto"
        self._commit_seconds = commit_seconds
        end = appender.committed.end_step
        points = appender.table.checkpoints
        self._buffer = FrameBuffer(appender.schema, end - 1 if end else None)
        self._checkpoint_step = points[-1][0] if points else -1
        self._queued_frames = appender.committed.frames
        self._deadline: float | None = None
        self._closed = False
        self._process = os.getpid()
        self._worker = Worker(threaded)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<stepson.Writer {self.path.name}: {self.frames} frames, {state}>"

    @property
    def fields(self) -> dict[str, Field]:
        """The fields by name."""
        return {each.name: each for each in self._appender.schema.fields}

    @property
    def n_atoms(self) -> int:
        """Atoms of every frame."""
        return self._appender.schema.n_atoms

    @property
    def uuid(self) -> str:
        """Of the file, as 32 hexadecimal digits."""
        return self._appender.header.uuid.hex()

    @property
    def digest(self) -> str:
        """sha256 of the file up to its last commit, through the chain of COMMITs."""
        return self._appender.committed.digest.hex()

    @property
    def frames(self) -> int:
        """Frames appended so far, by earlier sessions too, committed or not."""
        return self._queued_frames + self._buffer.frames

    @property
    def last_step(self) -> int | None:
        """The last step appended, committed or not."""
        return self._buffer.last_step if self._buffer.last_step >= 0 else None

    @property
    def steps_committed(self) -> int | None:
        """The last step that is durable."""
        end = self._appender.committed.end_step
        return end - 1 if end else None

    @property
    def frames_committed(self) -> int:
        """Frames that are durable."""
        return self._appender.committed.frames

    @property
    def bytes_written(self) -> int:
        """Size of the file."""
        return self._appender.size

    def append(self, step: int, **fields: Any) -> None:
        """Add one frame: every field that is due at `step`, and no other.

        Args:
            step: after all steps before.
            **fields: samples; shape and dtype as declared.

        Raises:
            SchemaError: a field is missing, undue, or does not fit.
            WriterError: out of order, closed, or an earlier write failed.
        """
        if self._closed:
            raise self._closed_error()
        self._buffer.append(step, fields)
        if self._buffer.full:
            self._hand_over()
        elif self._auto:
            self._watch_clock()

    def extend(self, steps: Sequence[int] | np.ndarray[Any, Any], **fields: Any) -> None:
        """Add many frames.

        Args:
            steps: of the frames, ascending.
            **fields: samples of each field at those of `steps` where it is due, shape
                ``(due, ...)``; an irregular field is given at all of them or not at all.

        Raises:
            SchemaError: a field is missing or does not fit.
            WriterError: out of order, closed, or an earlier write failed.
        """
        if self._closed:
            raise self._closed_error()
        found, values = self._buffer.check_extension(steps, fields)
        used = dict.fromkeys(values, 0)
        start = 0
        while start < len(found):
            piece = found[start : start + self._buffer.room()]
            taken = {name: self._due(name, piece) for name in values}
            part = {n: values[n][used[n] : used[n] + taken[n]] for n in values}
            self._buffer.extend(piece, part)
            used = {name: used[name] + taken[name] for name in values}
            start += len(piece)
            if self._buffer.full:
                self._hand_over()
        if self._auto and len(found):
            self._watch_clock()

    def _due(self, name: str, steps: np.ndarray[Any, Any]) -> int:
        field = self._appender.schema.field(name)
        if field.every is None:
            return len(steps)
        return int(np.count_nonzero(steps % field.every == field.offset))

    def _watch_clock(self) -> None:
        """Close a block that has waited for `commit_seconds`."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._commit_seconds
        elif now >= self._deadline:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the buffered frames to the worker; in auto mode as a transaction."""
        self._deadline = None
        if not self._buffer.frames:
            return
        self._check_process()
        appender = self._appender

        def write() -> None:
            appender.block(samples)
            if self._auto:
                appender.commit()

        with self._worker.undivided():
            self._queued_frames += self._buffer.frames
            samples = self._buffer.take()
            self._worker.do(write)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Hand in the state at the last step; it becomes durable with the next commit.

        Args:
            state: nested dict of numbers, text and arrays; ``"step"`` in it overrides the
            last
                step appended.

        Raises:
            SchemaError: something in it cannot be stored, or there is no step.
            WriterError: it belongs to a step before the last checkpoint.
        """
        if self._closed:
            raise self._closed_error()
        self._check_process()
        step = self._step_of(state)
        tree, parts = pack_tree({**state, "step": step}, "checkpoint")
        if self._auto:
            self._hand_over_block()
        appender = self._appender
        self._worker.do(lambda: appender.write_checkpoint(step, tree, parts))
        self._checkpoint_step = step

    def _hand_over_block(self) -> None:
        """In front of a checkpoint: frames up to it belong to the same transaction."""
        self._check_process()
        if self._buffer.frames:
            appender = self._appender
            with self._worker.undivided():
                self._queued_frames += self._buffer.frames
                samples = self._buffer.take()
                self._worker.do(lambda: appender.block(samples))

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise WriterError(
                f"{self.path} is being written by process {self._process}, which this one "
                "was forked from; only that may write"
            )

    def _step_of(self, state: Mapping[str, Any]) -> int:
        step = state.get("step", self.last_step)
        if isinstance(step, np.integer):
            step = int(step)
        if type(step) is not int or step < 0:
            raise SchemaError(f"a checkpoint needs the step it belongs to, not {step!r}")
        if step < self._checkpoint_step:
            raise WriterError(
                f"checkpoint of step {step} after one of step {self._checkpoint_step}: "
                "they come in order"
            )
        return step

    def note(self, content: Mapping[str, Any]) -> None:
        """Write down an event, with host, pid and time; visible with the next commit."""
        if self._closed:
            raise self._closed_error()
        self._check_process()
        kept, appender = dict(content), self._appender
        self._worker.do(lambda: appender.note(kept))

    def commit(self, wait: bool = True) -> None:
        """Make everything appended, and the last checkpoint, durable as one transaction.

        Args:
            wait: return when it is on the disk; else as soon as the thread has taken it.

        Raises:
            WriterError: it could not be written.
        """
        if self._closed:
            raise self._closed_error()
        self._hand_over_block()
        self._deadline = None
        appender = self._appender
        self._worker.do(lambda: appender.commit() if appender.open else None)
        if wait:
            self.flush()

    def flush(self) -> None:
        """Wait until everything handed over is durable.

        Raises:
            WriterError: it could not be written.
        """
        self._worker.wait()

    def checkpoint_state(self) -> dict[str, Any] | None:
        """The latest committed checkpoint, or None."""
        found = self.checkpoints()
        return found[-1][1]() if found else None

    def checkpoints(self) -> list[tuple[int, Callable[[], dict[str, Any]]]]:
        """Step and loader of the last two committed checkpoints, from old to new."""
        points = self._appender.table.checkpoints
        return [(step, lambda at=offset: self._load(at)) for step, offset in points]  # type: ignore[misc]

    def _load(self, offset: int) -> dict[str, Any]:
        sink, end = self._appender.sink, self._appender.committed.end

        def read() -> dict[str, Any]:
            record = read_record(sink, offset, RecordType.CHECKPOINT, end)
            return unpack_checkpoint(sink, record)

        return insist(sink, offset, read)

    def trajectory(self) -> Any:
        """A reader (`Trajectory`) of what is committed now."""
        return self._opener(self.path)

    def close(self) -> None:
        """Commit what is left, seal the file and let go of it; a second call does nothing.

        Raises:
            WriterError: what was left could not be written; the file is closed all the
            same.
        """
        if self._closed:
            return
        if self._process != os.getpid():
            self._release()
            return
        appender = self._appender
        try:
            self._hand_over_block()
            self._worker.do(appender.seal)
            self._worker.wait()
        finally:
            self._release()

    def _release(self) -> None:
        """Let go; in a forked child of its own copy only, the file stays the parent's."""
        self._closed = True
        if self._process == os.getpid():
            self._worker.stop()
            self._on_close()
        self._appender.sink.close()

    def abandon(self) -> None:
        """Let go of the file without sealing it: what was not committed is dropped."""
        if not self._closed:
            self._release()

    def _closed_error(self) -> WriterError:
        return WriterError(f"{self.path} is closed; open it with mode 'a' to go on")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()
