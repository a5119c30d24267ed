"""A reader and a follower beside a writer: at every moment they see what was committed."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import stepson
from stepson.errors import WriterError
from stepson.frame import Frame
from stepson.opening import Header
from stepson.source import LocalFile
from stepson.trajectory import Trajectory
from stepson.writing import resume, start
from tests.stepson.crashes.cases import Outcome, setting
from tests.stepson.crashes.disk import Disk
from tests.stepson.crashes.life import Wrong, act, judged, options, plan
from tests.stepson.crashes.model import Model, same

__all__ = ["reader"]


class OnDisk(Disk):
    """A disk whose cache is a real file."""

    def __init__(self, rng: np.random.Generator, path: Path) -> None:
        super().__init__(rng)
        self._file = path.open("ab", buffering=0)
        self._copied = 0

    def copy(self) -> None:
        """Let others see what was written so far."""
        self._file.write(self.cache[self._copied :])
        self._copied = len(self.cache)

    def release(self) -> None:
        self._file.close()


def reader(kind: str, seed: int) -> Outcome:
    """One writer; at every moment a reader opens the file, and a follower goes on."""
    model, limits = setting(seed)
    with limits.applied(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "md.son"
        disk = OnDisk(model.rng, path)
        look = Lookout(path, disk, model)
        disk.watch = look
        how = options(model.rng)
        header = Header(model.rng.bytes(16), "2025-01-01T00:00:00", "test")
        try:
            writer = start(disk, path, header, model.schema, model.metadata, **how)
            act(writer, plan(model, 4))
            if model.rng.random() < 0.4:
                writer.close()
                writer = resume(disk, path, **how)
                act(writer, plan(model, 2))
            writer.close()
            look.end()
        except WriterError as error:
            raise Wrong(str(error)) from error
        finally:
            disk.release()
    return Outcome(opened=True, appended=False)


class Lookout:
    """What is looked at, at each moment."""

    def __init__(self, path: Path, disk: OnDisk, model: Model) -> None:
        self._path, self._disk, self._model = path, disk, model
        self._frames: Iterator[Frame] = iter(())
        self._known: int | None = None

    def __call__(self) -> None:
        """Open the file; take from the follower what was promised."""
        self._disk.copy()
        if self._disk.promised < 0:
            return
        traj = Trajectory(LocalFile(self._path), self._path)
        promised = self._disk.promised
        left = judged(traj, self._disk.states, promised, self._model)
        traj.close()
        if left.state.frames < self._disk.states[promised].frames:
            raise Wrong("fewer frames than were promised")
        if self._known is None:
            self._known = 0
            follower = stepson.open(self._path, follow=True, poll=0.0, timeout=60.0)
            self._frames = iter(follower)
        while self._known < self._disk.states[promised].frames:
            self._take(next(self._frames))

    def _take(self, frame: Frame) -> None:
        number, model = self._known, self._model
        assert number is not None
        if frame.step != model.steps[number]:
            raise Wrong(f"the follower gives step {frame.step}, not {model.steps[number]}")
        for name, places in model.places.items():
            place = int(np.searchsorted(places, number))
            found = frame[name]
            due = number in places[place : place + 1]
            if due != (found is not None):
                raise Wrong(f"the follower gives {name} at step {frame.step}: {found}")
            if due and not same(np.asarray(found), model.rows[name][place]):
                raise Wrong(f"the follower gives a wrong {name} at step {frame.step}")
        self._known = number + 1

    def end(self) -> None:
        """The file is sealed: the follower ends there."""
        self._disk.copy()
        for frame in self._frames:
            self._take(frame)
        if self._known != len(self._model.steps):
            raise Wrong(f"the follower ends after {self._known} frames")
