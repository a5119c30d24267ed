"""Frames of a run in progress, as they are committed; by URL, too.

Theory of operation. A follower looks at the file again and again without touching its lock.
A *glance* costs one small call: only where size or time have changed, or something stood
behind the last COMMIT, the file is opened anew, which costs the same whatever its size.
Then the newest COMMIT must go on from the one known so far. TABLE and INDEX tell which
COMMIT brought the first new frame; that one names its predecessor and carries its sha256,
so one read proves the chain, however many commits were made between two looks.

Caches of network file systems show sizes that are too small or too large, and zeros where
there are data. None of this can pass for new frames, because everything has checksums; it
can only look like less than is known, or like damage. So

- a look that shows less than is known, another file, or something that does not verify is
  ignored, and an error only after `patience` seconds of nothing else;
- what does not verify is read again for `patience` seconds after its COMMIT was first seen;
- a COMMIT that verifies and whose chain passes by the one known proves at once that frames
  were taken back, which only a power failure can do: an error;
- nothing is read of a file in which the COMMIT that was known does not stand where it stood
  (`stepson.anchor`): blocks of a replica in its place would be sound, and wrong.

Implements ``spec/son-1.md`` 4.1.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from weakref import WeakSet

import numpy as np

from stepson.anchor import Anchored
from stepson.closing import Closing
from stepson.errors import FormatError, SchemaError, StepsonError
from stepson.frame import Frame
from stepson.index import Column
from stepson.reader import Reader
from stepson.records import Commit
from stepson.scan import read_commit
from stepson.source import Followed, Source, forget
from stepson.trajectory import Trajectory

__all__ = ["Follower"]

NEAR_POLL = 0.5
FAR_POLL = 2.0
PATIENCE = 60.0
"""Seconds; network file systems keep attributes for up to a minute."""
SHORTEST_PAUSE = 0.02


class Follower(Closing):
    """Iterates over the frames of a growing file; ``open(path, follow=True)`` makes one.

    Ends at a FOOTER that ends the file, or after `timeout` seconds without a new COMMIT.

    Args:
        source: of the file.
        path: of the file, or its URL.
        timeout: seconds; None: never.
        poll: seconds between two looks; default 0.5, for a URL 2.
        patience: seconds for which what may be a stale cache is no error.

    Raises:
        SchemaError: one of these is no number of seconds.
    """

    def __init__(
        self,
        source: Followed,
        path: Path | str,
        *,
        timeout: float | None = None,
        poll: float | None = None,
        patience: float = PATIENCE,
    ) -> None:
        for name, value in (("timeout", timeout), ("poll", poll), ("patience", patience)):
            if value is not None or name == "patience":
                _check_seconds(name, value)
        self.path = path
        self._source = source
        self._timeout = timeout
        default = FAR_POLL if getattr(source, "far", False) else NEAR_POLL
        self._poll = default if poll is None else poll
        self._patience = patience
        self._mark: object = None
        self._readers: WeakSet[Reader] = WeakSet()
        self._looked = monotonic()
        self._doubts_since: float | None = None
        self.trajectory = self._open()
        """The file as of the last look."""

    def __repr__(self) -> str:
        return f"<stepson.Follower of {self.trajectory!r}>"

    def __iter__(self) -> Iterator[Frame]:
        done, deadline = 0, self._deadline()
        while True:
            traj = self.trajectory
            if len(traj) > done:
                yield from self._frames(traj, done)
                done, deadline = len(traj), self._deadline()
            if traj.sealed or monotonic() > deadline:
                return
            sleep(self._poll)
            if self.look():
                deadline = self._deadline()

    def _deadline(self) -> float:
        return float("inf") if self._timeout is None else monotonic() + self._timeout

    def _frames(self, traj: Trajectory, done: int) -> Iterator[Frame]:
        failures = 0
        while done < len(traj):
            try:
                for frame in traj.frames(done):
                    done += 1
                    yield frame
            except (FormatError, OSError):
                failures += 1
                if not traj.reader.again(failures):
                    raise

    def look(self) -> bool:
        """Look at the file again; whether there is a new COMMIT.

        Raises:
            FormatError: frames that were visible have been taken back.
            StepsonError: for `patience` seconds the file could not be read, or showed less
                than was known.
            ClosedError: it was closed.
        """
        self.trajectory.reader.check_open()
        try:
            fresh = self._changed()
            if fresh is None:
                return False
            news = self._compare(fresh, self.trajectory)
        except _TakenBackError as error:
            raise FormatError(str(error)) from None
        except (StepsonError, OSError) as error:
            self._doubt(error)
            return False
        self._doubts_since = None
        self.trajectory = fresh
        return news

    def _changed(self) -> Trajectory | None:
        """The file opened anew, if there may be anything new."""
        mark, now = self._source.glance(), monotonic()
        known = self.trajectory
        settled = known.torn_bytes == 0 or now < self._looked + 4 * self._poll
        if mark == self._mark and settled and self._doubts_since is None:
            return None
        self._source.look()
        fresh = self._open()
        self._mark, self._looked = mark, now
        return fresh

    def _open(self) -> Trajectory:
        anchored = Anchored(self._source, self.path)
        found = Trajectory(anchored, self.path)
        anchored.hold(found.opened.tail.commit)
        self._readers.add(found.reader)
        until = monotonic() + self._patience
        found.reader.again = partial(_again, found.source, until, self._poll)
        return found

    def _doubt(self, error: Exception) -> None:
        """Let a look pass that shows no good; raise when it has been so for too long."""
        now = monotonic()
        if self._doubts_since is None:
            self._doubts_since = now
        if now < self._doubts_since + self._patience:
            return
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise FormatError(f"{self.path}: cannot be read any more: {reason}") from error
        raise error

    def _compare(self, fresh: Trajectory, known: Trajectory) -> bool:
        """Whether `fresh` has a new COMMIT; raise where it does not go on from `known`."""
        new, old = fresh.opened.tail.commit, known.opened.tail.commit
        if new.uuid != old.uuid:
            raise FormatError(f"{self.path}: another file has taken its place")
        if new == old:
            return False
        if new.offset < old.offset:
            raise FormatError(
                f"{self.path}: the file has become shorter, frames from step "
                f"{new.end_step} on are gone"
            )
        shared = _fork(fresh, known)
        if shared is not None:
            raise _TakenBackError(
                f"{self.path}: frames from step {shared.end_step} on were taken back"
            )
        return True

    def close(self) -> None:
        """Let go of the file; frames that were handed out can no longer be read."""
        for reader in list(self._readers):
            reader.close()


def _check_seconds(name: str, value: object) -> None:
    """Refuse what would be found out in the middle of a run, or never."""
    number = isinstance(value, (int, float, np.integer)) and type(value) is not bool
    good = number and float(value) >= 0  # type: ignore[arg-type]
    if not good or (name == "poll" and value == float("inf")):
        raise SchemaError(
            f"open(follow=True): {name} is a number of seconds from 0 on, not {value!r}",
            expected="seconds",
            got=value,
        )


def _again(source: Source, until: float, poll: float, failures: int) -> bool:
    """Read what fails again and again up to a time, then once."""
    if monotonic() > until and failures > 1:
        return False
    if failures > 1:
        sleep(max(poll, SHORTEST_PAUSE))
    with suppress(FormatError):  # of another file in its place: the read will tell
        forget(source)
    return True


class _TakenBackError(Exception):
    """A proof, not a doubt."""


def _fork(fresh: Trajectory, known: Trajectory) -> Commit | None:
    """None where `fresh` goes on from `known`; else the last COMMIT that both have.

    Raises:
        FormatError: a COMMIT in between does not verify.
    """
    source, old = fresh.source, known.opened.tail.commit
    commit = _first_after(fresh, old)
    while commit.offset > old.offset:
        before = read_commit(source, commit.previous, old.uuid) if commit.previous else None
        if before is None:
            return commit
        if before.digest != commit.chain:
            raise FormatError("a COMMIT is not the one before", offset=before.offset)
        if before == old:
            return None
        commit = before
    mine = {old.previous, *known.opened.table.entries.rows[:, Column.COMMIT].tolist()}
    while commit.offset not in mine and commit.previous:
        commit = read_commit(source, commit.previous, old.uuid)
    return commit


def _first_after(fresh: Trajectory, old: Commit) -> Commit:
    """The COMMIT that brought the first frame after `old`, by the index; else the last."""
    last = fresh.opened.tail.commit
    unit = fresh.opened.tree.find(Column.FRAMES, old.frames)
    offset = 0 if unit is None else int(unit.row[Column.COMMIT])
    return read_commit(fresh.source, offset, old.uuid) if offset else last
