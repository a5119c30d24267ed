"""What `stepson.open` returns: a file as of its last commit, read when it is asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from stepson.checkpoints import read_checkpoint
from stepson.closing import Closing
from stepson.column import Column, Samples, Steps, Times, whole
from stepson.errors import ClosedError, SchemaError
from stepson.frame import Frame
from stepson.index import Column as Place
from stepson.opening import Totals, open_named
from stepson.picture import composition, picture, size_text, time_text
from stepson.reader import Batch, Reader
from stepson.schema import Field, Schema
from stepson.seams import Gap, Overlap
from stepson.source import Source
from stepson.tree import Lazy
from stepson.verify import Verification, verify

__all__ = ["Trajectory"]


class Trajectory(Closing):
    """A file as of the moment it was opened; `stepson.open` makes one.

    Files that continue one another make one as well, a `stepson.series.joined.Joined`.
    """

    gaps: tuple[Gap, ...] = ()
    """Steps missing between files that continue one another."""
    overlaps: tuple[Overlap, ...] = ()
    """Frames of such files that do not count, because the next file starts before them."""

    def __init__(self, source: Source, path: Path | str | None = None) -> None:
        self.path = path
        self.opened = open_named(source, path)
        self.source = self.opened.source
        self.reader = Reader(self.opened)

    @property
    def _samples(self) -> Samples:
        """Where columns are read."""
        return self.reader

    def __len__(self) -> int:
        return self._samples.frames

    @property
    def parts(self) -> Sequence["Trajectory"]:
        """The files: this one alone, or those that it was joined of."""
        return (self,)

    @property
    def schema(self) -> Schema:
        """Fields and number of atoms."""
        return self._samples.schema

    @property
    def fields(self) -> dict[str, Field]:
        """The fields by name."""
        return {each.name: each for each in self.schema.fields}

    @property
    def n_atoms(self) -> int:
        """Atoms of every frame."""
        return self.schema.n_atoms

    @property
    def uuid(self) -> str:
        """32 hexadecimal digits."""
        return self.opened.header.uuid.hex()

    @property
    def digest(self) -> str:
        """sha256 of the last COMMIT, which through the chain vouches for all before it."""
        return self.opened.tail.commit.digest.hex()

    @property
    def parent(self) -> Mapping[str, Any] | None:
        """``uuid``, ``digest`` and ``step`` of the file that this one continues."""
        return self.opened.header.parent

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self.opened.size

    @property
    def sealed(self) -> bool:
        """Whether the file was closed properly."""
        return self.opened.tail.sealed

    @property
    def torn_bytes(self) -> int:
        """Bytes behind the last commit: of a writer at work, or of one that was killed."""
        return self.opened.torn_bytes

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Numbers, masses, pbc, cell, timestep, and what the run wrote; arrays are lazy."""
        self._check_open()
        return self._metadata

    @cached_property
    def _metadata(self) -> Mapping[str, Any]:
        return Lazy(self.source, self.opened.metadata)

    @cached_property
    def timestep(self) -> float:
        """Of the run, fs.

        Raises:
            SchemaError: the file does not tell.
        """
        found = self.metadata.get("timestep")
        if not isinstance(found, (int, float)):
            raise SchemaError("the file has no timestep, so steps have no time")
        return float(found)

    def _timestep(self) -> float:
        return self.timestep

    @property
    def steps(self) -> Steps:
        """Of the frames."""
        return Steps(self._samples, None, len(self))

    @property
    def time(self) -> Times:
        """Of the frames, fs."""
        return Times(self.steps, self.timestep)

    @overload
    def __getitem__(self, key: str) -> Column: ...
    @overload
    def __getitem__(self, key: int) -> Frame: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int]) -> list[Frame]: ...
    def __getitem__(
        self, key: str | int | slice | Sequence[int]
    ) -> Column | Frame | list[Frame]:
        """A column by its name, a frame by its number, a list of frames by several."""
        if isinstance(key, str):
            return Column(self._samples, self.schema.field(key), self._timestep)
        found = self.steps[key]
        if isinstance(found, int):
            return self._frame(found)
        return [self._frame(step) for step in found.tolist()]

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """The frames in order, from number `start` on."""
        while start < len(self):
            unit = self.reader.unit_of_frame(start)
            steps = self.reader.steps(unit, None)
            for step in steps[start - int(unit.before[Place.FRAMES]) :].tolist():
                yield Frame(self.reader, step, self._timestep)
            start = int(unit.row[Place.FRAMES])

    def at_step(self, step: int) -> Frame:
        """The frame at a step.

        Raises:
            SchemaError: nothing was recorded there.
        """
        step = whole(step, "a step")
        if self._samples.sample_at(None, step) is None:
            raise SchemaError(f"nothing was recorded at step {step}")
        return self._frame(step)

    def _frame(self, step: int) -> Frame:
        return Frame(self.reader, step, self._timestep)

    def stream(
        self,
        *names: str,
        frames: int = 4096,
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[Batch]:
        """Batches of samples, in order and in bounded memory.

        Batches are cut at steps common to all fields: ``batch[name]`` are the samples and
        ``batch.steps[name]`` their steps.

        Args:
            *names: of the fields; small fields alone are read from their own contiguous
                copy.
            frames: the most samples of any field in a batch.
            start: the first step wanted.
            stop: the step behind the last one wanted.

        Raises:
            SchemaError: no such field.
            DamagedError: a checksum fails.
        """
        for name in names:
            self.schema.field(name)
        if frames < 1 or not names:
            raise SchemaError("a stream needs at least one field and one frame a batch")
        return self._samples.stream(tuple(dict.fromkeys(names)), frames, start, stop)

    @property
    def checkpoint_steps(self) -> list[int]:
        """Steps of the last two checkpoints, from old to new."""
        return [step for step, _ in self.opened.table.checkpoints]

    def checkpoint(self, step: int | None = None) -> dict[str, Any]:
        """The state to go on from, with ``"step"`` in it.

        Args:
            step: of the checkpoint; default: the last one. Found by the tables, without a
                scan.

        Raises:
            SchemaError: there is none.
            DamagedError: it does not verify; the message names one before it that does.
        """
        self._check_open()
        return read_checkpoint(self.opened, step)

    def verify(
        self, deep: bool = False, on_progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Check every checksum of what was committed; damage is listed, not raised.

        Args:
            deep: also decode every chunk, and check the index and SCALARS against the
                blocks.
            on_progress: called with bytes done and bytes to do.
        """
        self._check_open()
        return verify(self.opened, deep=deep, on_progress=on_progress)

    def __repr__(self) -> str:
        return f"<stepson.Trajectory {self._name}: {len(self)} frames, {self._state}>"

    @property
    def _name(self) -> str:
        return "in memory" if self.path is None else str(self.path).rpartition("/")[2]

    @property
    def _state(self) -> str:
        if self.closed:
            return "closed"
        if self.sealed:
            return "sealed"
        return f"open, {self.torn_bytes} bytes uncommitted" if self.torn_bytes else "open"

    def __str__(self) -> str:
        if self.closed:
            return repr(self)
        numbers = _integers(self.metadata.get("numbers"))
        samples = [self._samples.samples(name) for name in self.fields]
        system = f"{self.n_atoms} atoms  {composition(numbers)}"
        fields, totals = self.schema.fields, self._totals()
        foot = [self._foot(), *self._remarks()]
        return picture(self._name, system, fields, samples, totals, foot)

    @property
    def last_step(self) -> int:
        """Of the last frame; -1 without any."""
        return self.opened.tail.commit.end_step - 1

    def _totals(self) -> Totals:
        return self.opened.table.totals

    def _remarks(self) -> Iterator[str]:
        """What else should be known of it."""
        if self.parent is not None:
            uuid, step = (self.parent.get(key) for key in ("uuid", "step"))
            yield f"continues the file {str(uuid)[:8]}… from step {step} on"

    def _foot(self) -> str:
        steps = f"steps {self.steps[0]} to {self.steps[-1]}" if len(self) else "no steps"
        span = ""
        if len(self) and isinstance(self.metadata.get("timestep"), (int, float)):
            span = f", {time_text(self.time[-1] - self.time[0])}"
        return f"{len(self):,} frames, {steps}{span}, {size_text(self.size)}, {self._state}"

    def close(self) -> None:
        """Let go of the file: reading from it is a `ClosedError` from now on."""
        self.reader.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.reader.closed

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError


def _integers(numbers: object) -> list[int]:
    """Atomic numbers as they should be stored; none where they are anything else."""
    if isinstance(numbers, np.ndarray) and numbers.ndim == 1 and numbers.dtype.kind in "iu":
        return [int(each) for each in numbers]
    return []
