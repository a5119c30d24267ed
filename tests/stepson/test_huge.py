"""Offsets far beyond 4 GiB, in a file with a hole; what opening it costs."""

import os
import time
from pathlib import Path

import pytest

import stepson
from stepson.records import pack_head, padded
from stepson.source import LocalSink
from stepson.trajectory import Trajectory
from tests.stepson.files import check_content, create, frame

HOLE = 2**40
PRIVATE = 0x8001


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames, a private record with a payload of 1 TiB that was never written, frames."""
    path = tmp_path_factory.mktemp("huge") / "md.son"
    writer = create(path, commit="manual", threaded=False)
    for step in range(0, 600, 2):
        if step == 300:
            add_hole(writer)
        writer.append(step, **frame(step))
        if step % 4 == 2:
            writer.checkpoint({"n": step})
            writer.commit()
    writer.close()
    return path


def add_hole(writer: stepson.Writer) -> None:
    appender, sink = writer._appender, writer._appender.sink
    assert isinstance(sink, LocalSink)
    appender._open_transaction()
    head = pack_head(PRIVATE, b"", HOLE, appender._sequence)
    sink.write([head])
    appender.size += padded(len(head) + HOLE)
    try:
        os.truncate(sink.descriptor, appender.size)
    except OSError as error:
        pytest.skip(f"no files of 1 TiB with holes here: {error.strerror}")
    appender._sequence += 1
    writer.commit()


def test_a_terabyte_opens_in_milliseconds(huge: Path) -> None:
    assert huge.stat().st_size > HOLE
    stepson.open(huge).close()
    start = time.perf_counter()
    with stepson.open(huge) as traj:
        last = traj[-1]
        state = traj.checkpoint()
    assert time.perf_counter() - start < 0.5
    assert last.step == 598
    assert state["n"] == 598


def test_everything_is_found(huge: Path) -> None:
    with stepson.open(huge) as traj:
        check_content(traj, list(range(0, 600, 2)))
        assert traj.checkpoint(498)["n"] == 498
        assert traj.opened.table.checkpoints[0][1] > HOLE


def test_after_a_kill(huge: Path) -> None:
    """The tail is found from the end, whatever the size."""

    class Cut(LocalSink):
        @property
        def size(self) -> int:
            return os.fstat(self.descriptor).st_size - 500

    source = Cut(os.open(huge, os.O_RDONLY))
    start = time.perf_counter()
    traj = Trajectory(source)
    assert time.perf_counter() - start < 0.5
    assert traj.torn_bytes > 0
    check_content(traj, list(range(0, 600, 2)))
