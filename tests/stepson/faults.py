"""A disk that loses what was not synced, a sink that fails on command, a run to record.

The model of a machine: what is written goes to a cache, ``sync`` brings the cache to the
platter. When the power goes, each 512-byte sector written since the last sync is on the
platter or not, in any combination; the file has any length between the old and the new one;
what is missing inside it reads as zeros, or as whatever lay there before. A sync that fails
leaves such a mixture too, and the kernel takes the pages for clean: the cache still shows
what the platter does not have, until it is dropped.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stepson.errors import StepsonError
from stepson.opening import Header
from stepson.schema import Field, Schema
from stepson.source import Buffer, Bytes
from stepson.trajectory import Trajectory
from stepson.writer import Writer
from stepson.writing import start

SECTOR = 512
ATOMS = 3
NOWHERE = Path("memory.son")
FIELDS = (
    Field("positions", "float32", ("atom", 3), "Å"),
    Field("coarse", "float64", ("atom", 3), "Å", precision=1e-3, every=2),
    Field("energy", "float64", (), "eV"),
    Field("heat_flux", "float64", (3,), "eV Å/fs", every=2, offset=1),
)


class Fault(NamedTuple):
    """What goes wrong at one call of a sink."""

    call: int
    kind: str
    """"enospc", "eio" (nothing written), "short" (a part written, then no space)."""


@dataclass
class Event:
    """Something that happened to a recorded sink: a write, a sync, an acknowledged
    commit."""

    kind: str
    data: bytes = b""


@dataclass
class FaultySink:
    """A sink in memory that records what happens, and fails where it is told to."""

    rng: np.random.Generator
    cache: bytes = b""
    platter: bytes = b""
    fault: Fault | None = None
    events: list[Event] = field(default_factory=list)
    dirty: bytes = b""
    """Written since the last sync."""
    calls: int = 0
    failed: bool = False
    abused: bool = False
    """Something was written or synced after a failure."""

    @property
    def size(self) -> int:
        return len(self.cache)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.cache[offset : offset + length]

    def close(self) -> None:
        pass

    def forget(self, start: int = 0) -> None:
        kept = self.cache[: min(start, len(self.platter))]
        self.cache = kept + self.platter[start:] + self.dirty

    def write(self, parts: Sequence[Buffer]) -> None:
        data = b"".join(parts)
        if self._fails():
            assert self.fault is not None
            if self.fault.kind == "short":
                self._append(data[: self.rng.integers(len(data) + 1)])
            raise OSError(errno.EIO if self.fault.kind == "eio" else errno.ENOSPC, "fault")
        self._append(data)

    def sync(self) -> None:
        if self._fails():
            new = self.cache[len(self.platter) :]
            self.platter, self.dirty = lose(self.platter, new, self.rng), b""
            raise OSError(errno.EIO, "fault")
        self.platter, self.dirty = self.platter + self.dirty, b""
        self.events.append(Event("sync"))

    def acknowledge(self) -> None:
        """Note that the caller was told that everything so far is durable."""
        self.events.append(Event("acknowledged"))

    def _append(self, data: bytes) -> None:
        self.cache += data
        self.dirty += data
        self.events.append(Event("write", data))

    def _fails(self) -> bool:
        self.abused |= self.failed
        self.calls += 1
        self.failed |= self.fault is not None and self.calls == self.fault.call
        return self.failed


def lose(durable: bytes, pending: bytes, rng: np.random.Generator) -> bytes:
    """What a platter may hold after ``pending`` was appended to ``durable`` without a
    sync."""
    whole = durable + pending
    sizes = (len(durable), len(whole), int(rng.integers(len(durable), len(whole) + 1)))
    size = sizes[rng.integers(3)]
    image = bytearray(durable.ljust(size, b"\0")[:size])
    if rng.random() < 0.3:
        image[len(durable) :] = rng.bytes(size - len(durable))
    kept = rng.choice([0.1, 0.5, 0.9])
    for sector in range(len(durable) // SECTOR, -(-size // SECTOR)):
        if rng.random() < kept:
            span = slice(sector * SECTOR, min(size, (sector + 1) * SECTOR))
            image[span] = whole[span]
    return bytes(image)


def crashes(
    events: Sequence[Event], rng: np.random.Generator, each: int, durable: bytes = b""
) -> Iterator[tuple[bytes, int]]:
    """Images of the platter after a power loss at every point, with the commits
    acknowledged."""
    pending, acknowledged = b"", 0
    for event in events:
        if event.kind == "acknowledged":
            acknowledged += 1
        elif event.kind == "sync":
            durable, pending = durable + pending, b""
        else:
            pending += event.data
        yield durable + pending, acknowledged
        if pending:
            for _ in range(each):
                yield lose(durable, pending, rng), acknowledged


class State(NamedTuple):
    """What a commit makes visible."""

    frames: int
    checkpoint: int | None
    """Step of the latest checkpoint."""


@dataclass
class Run:
    """A recorded run: every state that was or would have been committed, in order."""

    writer: Writer
    sink: FaultySink
    states: list[State]


def values_at(step: int) -> dict[str, Any]:
    """All fields that are due at a step; a function of the step, so any frame can be
    checked."""
    rows = np.sin(0.1 * step + np.arange(3.0 * ATOMS)).reshape(ATOMS, 3)
    values = {
        "positions": rows.astype("f4"),
        "coarse": 3.0 * rows,
        "energy": np.float64(np.cos(step)),
        "heat_flux": rows[0] * step,
    }
    return {each.name: values[each.name] for each in FIELDS if each.due(step)}


def checkpoint_at(step: int) -> dict[str, Any]:
    """A restart state that tells its step in two ways."""
    return {
        "step": step,
        "positions": np.full((ATOMS, 3), step, "f8"),
        "stage": f"at {step}",
    }


def begin(sink: FaultySink, **options: Any) -> Run:
    """Create a file on a sink."""
    header = Header(sink.rng.bytes(16), "2025-01-01T00:00:00", "test")
    metadata = {"numbers": np.arange(1, ATOMS + 1), "seed": 7, "table": np.arange(40.0)}
    options = {"commit": "manual", "threaded": False, **options}
    writer = start(sink, NOWHERE, header, Schema(FIELDS, ATOMS), metadata, **options)
    sink.acknowledge()
    return Run(writer, sink, [State(0, None)])


def go_on(run: Run, commits: int) -> None:
    """Append frames, checkpoints and notes, and commit; everything acknowledged is
    noted."""
    rng = run.sink.rng
    for _ in range(commits):
        frames, checkpoint = run.states[-1]
        more = int(rng.integers(1, 12)) if rng.random() < 0.9 else 0
        for step in range(frames, frames + more):
            run.writer.append(step=step, **values_at(step))
        frames += more
        if not more or rng.random() < 0.5:
            checkpoint = frames
            run.writer.checkpoint(checkpoint_at(checkpoint))
        if rng.random() < 0.2:
            run.writer.note({"what": "a note", "frames": frames})
        run.states.append(State(frames, checkpoint))
        run.writer.commit()
        run.sink.acknowledge()


def read_state(trajectory: Trajectory) -> State:
    """Read everything there is, and check each value against what was written."""
    steps = list(trajectory.steps)
    assert steps == list(range(len(steps)))
    for each in FIELDS:
        column = trajectory[each.name]
        due = [step for step in steps if each.due(step)]
        assert list(column.steps) == due
        expected = [values_at(step)[each.name] for step in due]
        found = column[:]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert np.max(np.abs(one - other)) <= (each.precision or 0.0)
    assert trajectory.metadata["seed"] == 7
    assert np.array_equal(trajectory.metadata["table"], np.arange(40.0))
    return State(len(steps), _read_checkpoint(trajectory))


def _read_checkpoint(trajectory: Trajectory) -> int | None:
    if not trajectory.checkpoint_steps:
        return None
    state = trajectory.checkpoint()
    step = int(state["step"])
    assert state["stage"] == f"at {step}"
    assert np.array_equal(state["positions"], np.full((ATOMS, 3), step, "f8"))
    return step


def state_of(image: bytes) -> State | StepsonError:
    """What an image shows, or the error that says why it shows nothing."""
    try:
        return read_state(Trajectory(Bytes(image), NOWHERE))
    except StepsonError as error:
        return error
