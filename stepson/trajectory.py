"""What `stepson.open` returns, and the two ways to a file: `open` and `create`.

A `Trajectory` is a file as of its last commit; a `Column` is one field over its own samples; a
`Frame` is what was recorded at one step. Nothing is read before it is asked for.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepson.errors import FormatError, SchemaError, StepsonError, TornError, VersionError
from stepson.errors import WriterError
from stepson.index import Column as Place
from stepson.lock import Newborn, lock, unlock
from stepson.opening import READ_COMPATIBLE, Header, Opened, open_source
from stepson.picture import composition, picture, size_text, time_text
from stepson.reader import Batch, Reader
from stepson.records import MAJOR, RecordType
from stepson.scan import read_record
from stepson.schema import Field, Schema, as_fields
from stepson.source import LocalFile, LocalSink, Source
from stepson.transaction import Appender
from stepson.tree import Lazy, unpack_tree
from stepson.writer import Writer

__all__ = ["Column", "Frame", "Steps", "Trajectory", "create", "open"]

PathLike = str | os.PathLike[str]
Array = NDArray[Any]
RESERVED = ("numbers", "masses", "cell", "pbc", "timestep")


class Steps(Sequence[int]):
    """Step numbers of a column (or of all frames), read when they are asked for."""

    def __init__(self, reader: Reader, cadence: int | None, length: int) -> None:
        self._reader = reader
        self._cadence = cadence
        self._length = length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> NDArray[np.int64]: ...  # type: ignore[override]
    def __getitem__(self, key: int | slice) -> int | NDArray[np.int64]:
        wanted, scalar = _samples(key, self._length)
        found = _in_order(wanted, lambda n: self._reader.steps_of(self._cadence, n))
        return int(found[0]) if scalar else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        if not self._length:
            return "<stepson.Steps: none>"
        return f"<stepson.Steps: {self._length}, {self[0]} to {self[-1]}>"


class Times(Sequence[float]):
    """Times of the steps of a column, fs."""

    def __init__(self, steps: Steps, timestep: float) -> None:
        self._steps = steps
        self._timestep = timestep

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, key: int) -> float: ...
    @overload
    def __getitem__(self, key: slice) -> NDArray[np.float64]: ...  # type: ignore[override]
    def __getitem__(self, key: int | slice) -> float | NDArray[np.float64]:
        return self._steps[key] * self._timestep  # type: ignore[return-value]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype=dtype)


class Column:
    """One field over its own samples: ``column[samples]``, ``column[samples, atoms]``."""

    def __init__(self, trajectory: "Trajectory", field: Field) -> None:
        self._trajectory = trajectory
        self._reader = trajectory.reader
        self.field = field

    def __len__(self) -> int:
        return self._reader.samples(self.field.name)

    @property
    def name(self) -> str:
        """Of the field."""
        return self.field.name

    @property
    def unit(self) -> str:
        """Of the field."""
        return self.field.unit

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples."""
        return np.dtype(self.field.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(samples, ...)``."""
        return (len(self), *self.field.sample_shape(self._reader.schema.n_atoms))

    @property
    def steps(self) -> Steps:
        """Of the samples."""
        cadence = self._reader.schema.cadence_of[self.field.name]
        return Steps(self._reader, cadence, len(self))

    @property
    def time(self) -> Times:
        """Of the samples, fs."""
        return Times(self.steps, self._trajectory.timestep)

    def __getitem__(self, key: Any) -> Array:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest] if rest else []
        wanted, scalar = _samples(first, len(self))
        atoms, rest = self._atoms(rest)
        name = self.field.name
        found = _in_order(wanted, lambda n: self._reader.read(name, n, atoms))
        found = found[(slice(None), *rest)] if rest else found
        return found[0] if scalar else found

    def _atoms(self, rest: list[Any]) -> tuple[tuple[int, int] | None, list[Any]]:
        """A contiguous slice of atoms is read alone; anything else is left to numpy."""
        if self.field.per_atom and rest and isinstance(rest[0], slice):
            start, stop, step = rest[0].indices(self._reader.schema.n_atoms)
            if step == 1:
                return (start, max(start, stop)), [slice(None), *rest[1:]]
        return None, rest

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype=dtype)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def at_step(self, step: int) -> Array:
        """The sample at a step.

        Raises:
            SchemaError: there is none.
        """
        cadence = self._reader.schema.cadence_of[self.field.name]
        found = self._reader.sample_at(cadence, step)
        if found is None:
            raise SchemaError(
                f"field {self.name!r} has no sample at step {step}", field=self.name
            )
        return self[found]

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"<stepson.Column {self.name!r} {self.shape} {self.field.dtype}{unit}>"


def _samples(key: Any, length: int) -> tuple[NDArray[np.int64], bool]:
    """A key over samples as numbers; whether it was a single one."""
    if isinstance(key, (int, np.integer)):
        if not -length <= key < length:
            raise IndexError(f"sample {key} of {length}")
        return np.array([key % length], np.int64), True
    if isinstance(key, slice):
        return np.arange(*key.indices(length), dtype=np.int64), False
    found = np.asarray(key)
    if found.dtype == bool:
        found = np.flatnonzero(found) if found.shape == (length,) else np.array([length])
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise IndexError("samples are chosen by a number, a slice, or a list of numbers")
    if found.size and not (-length <= found.min() and found.max() < length):
        raise IndexError(f"a sample out of {length}")
    return found.astype(np.int64) % max(length, 1), False


def _in_order(wanted: NDArray[np.int64], read: Any) -> Array:
    """Call `read` with ascending numbers, return in the order that was asked for."""
    if len(wanted) < 2 or np.all(wanted[1:] > wanted[:-1]):
        return np.asarray(read(wanted))
    unique, back = np.unique(wanted, return_inverse=True)
    return np.asarray(read(unique)[back])


class Frame:
    """What was recorded at one step: ``frame.positions`` is None where not due."""

    def __init__(self, trajectory: "Trajectory", step: int) -> None:
        self._trajectory = trajectory
        self.step = step

    @property
    def time(self) -> float:
        """Of the frame, fs."""
        return self.step * self._trajectory.timestep

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that are due here."""
        return tuple(n for n in self._trajectory.fields if getattr(self, n) is not None)

    def __getitem__(self, name: str) -> Array | None:
        reader = self._trajectory.reader
        field = reader.schema.field(name)
        cadence = reader.schema.cadence_of[name]
        unit = reader.unit_of_step(self.step)
        if unit is None:
            return None
        steps = reader.steps(unit, cadence)
        found = int(np.searchsorted(steps, self.step))
        if found == len(steps) or steps[found] != self.step:
            return None
        values = reader.values(unit, field.name, (found, found + 1))
        return np.array(values[0])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._trajectory.fields:
            raise AttributeError(f"a frame of this file has no {name!r}")
        return self[name]

    def __repr__(self) -> str:
        return f"<stepson.Frame step {self.step}: {', '.join(self.fields)}>"


class Trajectory:
    """A file as of the moment it was opened; `stepson.open` makes one."""

    def __init__(self, source: Source, path: Path | None = None) -> None:
        self.path = path
        self.source = source
        self.opened: Opened = _named(path, lambda: open_source(source))
        self.reader = Reader(self.opened)

    def __len__(self) -> int:
        return self.reader.frames

    @property
    def schema(self) -> Schema:
        """Fields and number of atoms."""
        return self.opened.schema

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

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """numbers, masses, pbc, cell, timestep, and what the run wrote; arrays are read late."""
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

    @property
    def steps(self) -> Steps:
        """Of the frames."""
        return Steps(self.reader, None, len(self))

    @property
    def time(self) -> Times:
        """Of the frames, fs."""
        return Times(self.steps, self.timestep)

    @overload
    def __getitem__(self, key: str) -> Column: ...
    @overload
    def __getitem__(self, key: int) -> Frame: ...
    def __getitem__(self, key: str | int) -> Column | Frame:
        if isinstance(key, str):
            return Column(self, self.schema.field(key))
        return Frame(self, self.steps[key])

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __iter__(self) -> Iterator[Frame]:
        for unit in self.reader.units(small=False):
            for step in self.reader.steps(unit, None).tolist():
                yield Frame(self, step)

    def at_step(self, step: int) -> Frame:
        """The frame at a step.

        Raises:
            SchemaError: nothing was recorded there.
        """
        if self.reader.sample_at(None, step) is None:
            raise SchemaError(f"nothing was recorded at step {step}")
        return Frame(self, step)

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
            *names: of the fields; small fields alone are read from their own contiguous copy.
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
        return self.reader.stream(names, frames, start, stop)

    @property
    def checkpoint_steps(self) -> list[int]:
        """Steps of the last two checkpoints, from old to new."""
        return [step for step, _ in self.opened.table.checkpoints]

    def checkpoint(self, step: int | None = None) -> dict[str, Any]:
        """The state to go on from, with ``"step"`` in it.

        Args:
            step: of the checkpoint; default: the last one. Found by the tables, without a scan.

        Raises:
            SchemaError: there is none.
            DamagedError: a checksum fails.
        """
        offset = self._checkpoint_offset(step)
        end = self.opened.tail.commit.end
        record = read_record(self.source, offset, RecordType.CHECKPOINT, end)
        return unpack_tree(self.source, record)

    def _checkpoint_offset(self, step: int | None) -> int:
        if step is None:
            if not self.opened.table.checkpoints:
                raise SchemaError("there is no checkpoint in this file")
            return self.opened.table.checkpoints[-1][1]
        for at, offset in self.opened.table.checkpoints:
            if at == step:
                return offset
        unit = self.opened.tree.find(Place.CHECKPOINT_STEP, step - 1) if step >= 0 else None
        if unit is None or unit.row[Place.CHECKPOINT_STEP] != step:
            have = (
                ""
                if unit is None
                else f"; the next one is at {unit.row[Place.CHECKPOINT_STEP]}"
            )
            raise SchemaError(f"there is no checkpoint of step {step}{have}")
        return int(unit.row[Place.CHECKPOINT])

    def __repr__(self) -> str:
        return f"<stepson.Trajectory {self._name}: {len(self)} frames, {self._state}>"

    @property
    def _name(self) -> str:
        return "in memory" if self.path is None else self.path.name

    @property
    def _state(self) -> str:
        if self.sealed:
            return "sealed"
        return f"open, {self.torn_bytes} bytes uncommitted" if self.torn_bytes else "open"

    def __str__(self) -> str:
        numbers = np.asarray(self.metadata.get("numbers", ())).tolist()
        samples = [self.reader.samples(name) for name in self.fields]
        system = f"{self.n_atoms} atoms  {composition(numbers)}"
        fields, totals = self.schema.fields, self.opened.table.totals
        return picture(self._name, system, fields, samples, totals, self._foot())

    def _foot(self) -> str:
        steps = f"steps {self.steps[0]} to {self.steps[-1]}" if len(self) else "no steps"
        span = ""
        if len(self) and isinstance(self.metadata.get("timestep"), (int, float)):
            span = f", {time_text(self.time[-1] - self.time[0])}"
        return f"{len(self):,} frames, {steps}{span}, {size_text(self.size)}, {self._state}"

    def close(self) -> None:
        """Let go of the file."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _named(path: Path | None, action: Any) -> Any:
    """Run `action`; the message of what it raises starts with the path."""
    try:
        return action()
    except FormatError as error:
        if path is not None:
            error.args = (f"{path}: {error}",)
        raise


@overload
def open(
    path: PathLike, mode: Literal["r"] = "r", *, strict: bool = False, **options: Any
) -> Trajectory: ...
@overload
def open(
    path: PathLike, mode: Literal["a"], *, strict: bool = False, **options: Any
) -> Writer: ...
def open(
    path: PathLike, mode: Literal["r", "a"] = "r", *, strict: bool = False, **options: Any
) -> Trajectory | Writer:
    """Open a `.son`, whatever its size, in milliseconds.

    Args:
        path: of the file.
        mode: "r" to read; "a" to go on after the last commit, whatever happened to the tail.
        strict: refuse a file that ends in uncommitted bytes.
        **options: of a writer: commit, commit_seconds, verify, threaded, break_lock; as `create`.

    Raises:
        FormatError: it is no `.son`.
        DamagedError: what was committed does not verify.
        TornError: uncommitted bytes, and `strict`.
        WriterError: another process writes to it.
    """
    where = Path(path)
    if where.is_dir():
        raise FormatError(f"{where} is a folder, not a .son file")
    if mode == "a":
        return _open_append(where, **options)
    if mode != "r":
        raise SchemaError(f"mode is 'r' or 'a', not {mode!r}; use create() for a new file")
    if options:
        raise SchemaError(f"reading takes no option {next(iter(options))!r}")
    found = Trajectory(LocalFile(where), where)
    if strict and found.torn_bytes:
        found.close()
        raise TornError(valid_until=found.opened.tail.valid_until, size=found.size)
    return found


def _open_append(
    path: Path, *, verify: bool = True, break_lock: bool = False, **options: Any
) -> Writer:
    """The protocol of "Opening for append": lock, sync, forget, read, pad, note."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FormatError(f"{path}: there is no such file; use create()") from None
    except OSError as error:
        raise WriterError(
            f"{path} cannot be opened for append: {error.strerror}"
        ) from error
    sink = LocalSink(descriptor)
    try:
        lock(descriptor, path, break_lock=break_lock)
        try:
            sink.sync()
            sink.forget()
            opened = _named(path, lambda: open_source(sink))
            _check_appendable(opened)
            return Writer(
                path, Appender.resume(sink, opened, verify=verify), opener=open, **options
            )
        except BaseException:
            unlock(path)
            raise
    except BaseException:
        sink.close()
        raise


def _check_appendable(opened: Opened) -> None:
    for feature in opened.header.read_compatible:
        if feature not in READ_COMPATIBLE:
            raise VersionError(found=MAJOR, supported=MAJOR, feature=feature)


def create(
    path: PathLike,
    *,
    fields: Iterable[Field],
    numbers: ArrayLike,
    masses: ArrayLike | None = None,
    cell: ArrayLike | None = None,
    pbc: bool | Sequence[bool] = True,
    timestep: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    parent: Trajectory | Mapping[str, Any] | None = None,
    commit: Literal["auto", "manual"] = "auto",
    commit_seconds: float = 30.0,
    verify: bool = True,
    threaded: bool = True,
) -> Writer:
    """Start a new file; an existing one is never overwritten.

    Args:
        path: of the file, in a folder that exists.
        fields: what is recorded.
        numbers: atomic numbers, shape ``(n,)``; they also say how many atoms there are.
        masses: shape ``(n,)``, amu.
        cell: rows are lattice vectors, shape ``(3, 3)``, Å; None for a cluster or where it is a
            field.
        pbc: periodic along each lattice vector.
        timestep: fs, so that time = step * timestep.
        metadata: anything else worth knowing: nested dicts of numbers, text, lists and arrays.
        parent: the trajectory that this file continues.
        commit: "auto" commits full blocks by itself; "manual" only at `Writer.commit`.
        commit_seconds: in auto mode, the longest that a frame waits for its commit.
        verify: decompress and compare every chunk.
        threaded: encode and write beside the caller.

    Raises:
        SchemaError: fields or metadata cannot be stored.
        WriterError: the file exists, or cannot be created.
    """
    where = Path(path)
    found = np.asarray(numbers)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise SchemaError("numbers are the atomic numbers of all atoms, shape (n,)")
    schema = Schema(as_fields(fields), len(found))
    content = _metadata(found.astype(np.int64), masses, cell, pbc, timestep, metadata or {})
    newborn = Newborn(where)
    try:
        header = _header(parent)
        appender = Appender.create(newborn.sink, header, schema, content, verify=verify)
        writer = Writer(
            where,
            appender,
            opener=open,
            commit=commit,
            commit_seconds=commit_seconds,
            threaded=threaded,
        )
    except BaseException:
        newborn.discard()
        raise
    newborn.publish()
    return writer


def _metadata(
    numbers: Array,
    masses: ArrayLike | None,
    cell: ArrayLike | None,
    pbc: bool | Sequence[bool],
    timestep: float | None,
    rest: Mapping[str, Any],
) -> dict[str, Any]:
    """The tree of METADATA: what `create` names, and the rest."""
    for key in RESERVED:
        if key in rest:
            raise SchemaError(
                f"metadata cannot hold {key!r}: it is an argument of create()"
            )
    return {
        "numbers": numbers,
        "masses": None if masses is None else _floats("masses", masses, numbers.shape),
        "cell": None if cell is None else _floats("cell", cell, (3, 3)),
        "pbc": [bool(each) for each in np.broadcast_to(np.asarray(pbc), 3)],
        "timestep": None if timestep is None else float(timestep),
        **rest,
    }


def _floats(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    found = np.asarray(values, np.float64)
    if found.shape != shape:
        raise SchemaError(f"{name} have shape {shape}, not {found.shape}")
    return found


def _header(parent: Trajectory | Mapping[str, Any] | None) -> Header:
    from stepson import __version__

    if isinstance(parent, Trajectory):
        last = parent.opened.tail.commit.end_step - 1
        parent = {"uuid": parent.uuid, "digest": parent.digest, "step": last}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Header(uuid4().bytes, created, f"stepson {__version__}", parent=parent)
