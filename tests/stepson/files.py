"""Small files and byte sinks that the tests of the container share."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import stepson
from stepson.source import Buffer, Bytes
from stepson.trajectory import Trajectory
from stepson.writer import Writer

Field = stepson.Field

FIELDS = (
    Field("positions", "float32", ("atom", 3), "Å", every=10),
    Field("energy", "float64", (), "eV", every=2),
    Field("heat_flux", "float64", (3,), "eV Å/fs", every=2),
)


class Memory(Bytes):
    """A sink in memory; counts syncs."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self.syncs = 0

    def write(self, parts: Sequence[Buffer]) -> None:
        self.data += b"".join(bytes(part) for part in parts)

    def sync(self) -> None:
        self.syncs += 1

    def forget(self, start: int = 0) -> None:
        pass


class Counting(Bytes):
    """A source that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return super().read_at(offset, length)

    @property
    def total(self) -> int:
        return sum(length for _, length in self.reads)


def frame(step: int, n_atoms: int = 3) -> dict[str, Any]:
    """The fields of `FIELDS` that are due at a step, with values that name it."""
    found: dict[str, Any] = {}
    if step % 2 == 0:
        found["energy"] = float(step)
        found["heat_flux"] = np.array([step, -step, 0.5 * step])
    if step % 10 == 0:
        grid = np.arange(3.0 * n_atoms).reshape(n_atoms, 3)
        found["positions"] = (grid + 0.01 * step).astype("f4")
    return found


def create(path: Path, *, n_atoms: int = 3, fields: Any = FIELDS, **options: Any) -> Writer:
    """A new file of argon."""
    masses = np.full(n_atoms, 39.948)
    return stepson.create(
        path, fields=fields, numbers=[18] * n_atoms, masses=masses, timestep=4.0, **options
    )


def write(
    path: Path, blocks: Sequence[range], *, seal: bool = True, n_atoms: int = 3
) -> None:
    """A file with one commit and one checkpoint for each range of steps."""
    writer = create(path, n_atoms=n_atoms, commit="manual", threaded=False)
    for steps in blocks:
        for step in steps:
            if step % 2 == 0:
                writer.append(step, **frame(step, n_atoms))
        writer.checkpoint({"step": steps[-1], "state": np.arange(4.0) + steps[-1]})
        writer.commit()
    if seal:
        writer.close()
    else:
        writer.abandon()


def steps_of(blocks: Sequence[range]) -> list[int]:
    """The steps of the frames that `write` writes."""
    return [step for steps in blocks for step in steps if step % 2 == 0]


def check_content(traj: Trajectory, steps: Sequence[int], n_atoms: int = 3) -> None:
    """The trajectory holds exactly these frames of `frame`, by every way to read it."""
    assert len(traj) == len(steps)
    assert traj.steps[:].tolist() == list(steps)
    for name in ("energy", "heat_flux", "positions"):
        due = [step for step in steps if name in frame(step)]
        expected = [frame(step, n_atoms)[name] for step in due]
        column = traj[name]
        assert column.steps[:].tolist() == due
        assert np.array_equal(column[:], np.reshape(expected, column.shape))
        streamed = [batch[name] for batch in traj.stream(name, frames=7)]
        assert sum(map(len, streamed)) == len(due)
        if due:
            assert np.array_equal(np.concatenate(streamed), column[:])


def flipped(data: bytes, place: int, mask: int = 0x40) -> bytes:
    """`data` with one byte changed."""
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def records(data: bytes) -> Iterator[Any]:
    """Every record of a file without torn parts."""
    from stepson.scan import walk

    return walk(Bytes(data), 64, len(data))
