"""Frames of a run in progress, as they are committed.

Looks at the file again and again without touching its lock. Each time the newest COMMIT is
taken from the tail and the chain is followed back to the one known from the last look:
where it misses that one, frames that were handed out have been taken back, which only a
power failure can do, and that is an error. Implements ``spec/son-1.md`` 4.1.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from stepson.errors import FormatError
from stepson.frame import Frame
from stepson.records import Commit
from stepson.scan import read_commit
from stepson.source import LocalFile, Source
from stepson.trajectory import Trajectory

__all__ = ["Follower"]


class Follower:
    """Iterates over the frames of a growing file; ``open(path, follow=True)`` makes one.

    Ends at a FOOTER that ends the file, or after `timeout` seconds without a new COMMIT.

    Args:
        source: of the file.
        path: of the file, or its URL.
        timeout: seconds; None: never.
        poll: seconds between two looks.
    """

    def __init__(
        self,
        source: Source,
        path: Path | str,
        *,
        timeout: float | None = None,
        poll: float = 0.5,
    ) -> None:
        self.path = path
        self._timeout = timeout
        self._poll = poll
        self.trajectory = Trajectory(source, path)
        """The file as of the last look."""

    def __repr__(self) -> str:
        return f"<stepson.Follower of {self.trajectory!r}>"

    def __iter__(self) -> Iterator[Frame]:
        done, deadline = 0, self._deadline()
        while True:
            traj = self.trajectory
            if len(traj) > done:
                yield from traj.frames(done)
                done, deadline = len(traj), self._deadline()
            if traj.sealed or time.monotonic() > deadline:
                return
            time.sleep(self._poll)
            if self.look():
                deadline = self._deadline()

    def _deadline(self) -> float:
        return float("inf") if self._timeout is None else time.monotonic() + self._timeout

    def look(self) -> bool:
        """Look at the file again; whether there is a new COMMIT.

        Raises:
            FormatError: frames that were visible have been taken back.
        """
        known = self.trajectory.opened.tail.commit
        fresh = Trajectory(self._again(), self.path)
        self._check_chain(fresh, known)
        self.trajectory.close()
        self.trajectory = fresh
        return fresh.opened.tail.commit.offset != known.offset

    def _again(self) -> Source:
        from stepson.remote import open_url

        return open_url(self.path) if isinstance(self.path, str) else LocalFile(self.path)

    def _check_chain(self, fresh: Trajectory, known: Commit) -> None:
        commit, uuid = fresh.opened.tail.commit, known.uuid
        while commit.offset > known.offset and fresh.opened.header.uuid == uuid:
            commit = read_commit(fresh.source, commit.previous, uuid)
        if commit != known:
            end = commit.end_step if commit.uuid == uuid else 0
            raise FormatError(f"{self.path}: frames from step {end} on were taken back")
