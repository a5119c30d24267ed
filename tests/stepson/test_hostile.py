"""Files that lie: every checksum is right, anything behind it may be wrong.

Checksums are switched off, for writing and reading alike, so that a changed byte reaches
what stands behind them: lengths, offsets, counts, msgpack maps, codec parameters. Whatever
they say, a reader answers with values or a `StepsonError`, in bounded memory, and does not
hang.
"""

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepson.records
import stepson.scan
import stepson.transaction
from stepson.errors import StepsonError
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writing import resume
from tests.stepson import faults
from tests.stepson.faults import FaultySink

MEMORY = 64 * 2**20


@pytest.fixture
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checksum that fits everything."""

    def nothing(data: Any, crc: int = 0) -> int:
        return 0

    for module in (stepson.records, stepson.scan, stepson.transaction):
        monkeypatch.setattr(module, "crc32c", nothing)
    monkeypatch.setattr("crc32c.crc32c", nothing)


def image_of(seed: int, close: bool) -> bytes:
    sink = FaultySink(np.random.default_rng(seed))
    run = faults.begin(sink)
    faults.go_on(run, 4)
    if close:
        run.writer.close()
    return sink.platter


def use_everything(image: bytes) -> None:
    """Every way to read: picture, columns, frames, stream, checkpoints, verification."""
    trajectory = Trajectory(Bytes(image), faults.NOWHERE)
    calls: list[Callable[[], object]] = [
        lambda: str(trajectory),
        lambda: [trajectory[name][:] for name in trajectory.fields],
        lambda: [trajectory[name][-1:] for name in trajectory.fields],
        lambda: [trajectory[i] for i in (0, len(trajectory) // 2, -1) if len(trajectory)],
        lambda: [trajectory.at_step(3), list(trajectory.steps[:50])],
        lambda: list(trajectory.stream("energy", frames=8)),
        lambda: [trajectory.checkpoint(), trajectory.checkpoint(step=4)],
        lambda: {key: trajectory.metadata[key] for key in trajectory.metadata},
        lambda: trajectory.verify(deep=True),
    ]
    for call in calls:
        try:
            call()
        except StepsonError:
            continue


def append_to(image: bytes) -> None:
    sink = FaultySink(np.random.default_rng(0), cache=image, platter=image)
    writer = resume(sink, faults.NOWHERE, commit="manual", threaded=False)
    step = 0 if writer.last_step is None else writer.last_step + 1
    writer.append(step=step, **faults.values_at(step))
    writer.commit()
    writer.close()


def changes(rng: np.random.Generator, image: bytes, count: int) -> Iterator[bytes]:
    """The image with a few bytes changed: bits, extremes, or bytes from elsewhere."""
    for _ in range(count):
        bad = bytearray(image)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(bad)))
            kind = rng.integers(4)
            if kind == 0:
                bad[place] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                bad[place] = rng.choice([0, 1, 0x7F, 0x80, 0xC0, 0xCF, 0xDD, 0xDF, 0xFF])
            else:
                length, other = int(rng.integers(1, 9)), int(rng.integers(len(bad)))
                piece = b"\xff" * length if kind == 2 else image[other : other + length]
                bad[place : place + len(piece)] = piece[: len(bad) - place]
        yield bytes(bad)


def attack(seed: int, count: int) -> int:
    rng, refused = np.random.default_rng(seed), 0
    for close in (False, True):
        for bad in changes(rng, image_of(seed, close), count // 2):
            for use in (use_everything, append_to):
                try:
                    use(bad)
                except StepsonError:
                    refused += 1
    return refused


# an index that lies is told, and the blocks are read instead
pytestmark: Any = [
    pytest.mark.usefixtures("no_checksums"),
    pytest.mark.filterwarnings("ignore"),
]


def test_lies_are_errors_or_values() -> None:
    assert attack(1, 160) > 15


def test_lies_cost_no_memory() -> None:
    tracemalloc.start()
    try:
        attack(2, 30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 13))
def test_lies_many(seed: int) -> None:
    assert attack(seed, 3000) > 300
