"""What else happens to a writer: Ctrl-C, fork, reused arrays, strangers, a full disk,
slowness.

The rule is the same as for crashes: what was committed stays, what is read is what was
written, and every other outcome is one clear error.
"""

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from stepson.errors import StepsonError, WriterError
from stepson.source import Buffer, Bytes
from stepson.trajectory import Trajectory
from stepson.writing import resume
from tests.stepson import faults
from tests.stepson.faults import ATOMS, FaultySink, Run, State

METADATA = {"seed": 7, "table": np.arange(40.0)}


def new(path: Path, **options: Any) -> stepson.Writer:
    numbers = np.arange(1, ATOMS + 1)
    options = {"commit": "manual", **options}
    return stepson.create(
        path, fields=faults.FIELDS, numbers=numbers, metadata=METADATA, **options
    )


def fill(writer: stepson.Writer, frames: int) -> None:
    first = writer.frames
    for step in range(first, first + frames):
        writer.append(step=step, **faults.values_at(step))


class InterruptedSink(FaultySink):
    """Ctrl-C arrives in the middle of one call: before, within or after what it does."""

    moment = "before"

    def _interrupt(self) -> bool:
        self.calls += 1
        return self.fault is not None and self.calls == self.fault.call

    def write(self, parts: Sequence[Buffer]) -> None:
        data, now = b"".join(parts), self._interrupt()
        if now and self.moment == "before":
            raise KeyboardInterrupt
        self._append(data[: len(data) // 2] if now and self.moment == "within" else data)
        if now:
            raise KeyboardInterrupt

    def sync(self) -> None:
        now = self._interrupt()
        if not (now and self.moment == "before"):
            self.platter = self.cache
            self.events.append(faults.Event("sync"))
        if now:
            raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_interrupt_at_any_call(moment: str) -> None:
    sink = FaultySink(np.random.default_rng(1))
    faults.go_on(faults.begin(sink), 4)
    for call in range(1, sink.calls + 1):
        again = InterruptedSink(
            np.random.default_rng(1), fault=faults.Fault(call, "ctrl-c")
        )
        again.moment = moment
        try:
            run = faults.begin(again)
        except KeyboardInterrupt:
            continue
        with pytest.raises(KeyboardInterrupt):
            faults.go_on(run, 4)
        with pytest.raises(WriterError):
            run.writer.commit()
        with pytest.raises(WriterError):
            run.writer.close()
        acknowledged = sum(event.kind == "acknowledged" for event in again.events)
        for image in (again.cache, again.platter):
            assert faults.state_of(image) in run.states[acknowledged - 1 :]


def test_interrupt_while_the_queue_is_full_loses_no_frame_in_between() -> None:
    """Ctrl-C while frames are handed to the thread: they must not go missing unnoticed."""
    gate = threading.Event()

    class Waiting(FaultySink):
        def write(self, parts: Sequence[Buffer]) -> None:
            gate.wait(20)
            super().write(parts)

    sink = Waiting(np.random.default_rng(1))
    gate.set()
    run = faults.begin(sink, threaded=True)
    gate.clear()
    main = threading.get_ident()
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        _keep_writing(run.writer)
    gate.set()
    fill(run.writer, 3)
    with pytest.raises(WriterError, match="interrupted"):
        run.writer.commit()
    with pytest.raises(WriterError):
        run.writer.close()
    found = faults.state_of(sink.platter)
    assert isinstance(found, State)
    assert found.frames % 3 == 0


def _keep_writing(writer: stepson.Writer) -> None:
    for _ in range(10):
        fill(writer, 3)
        writer.commit(wait=False)


def test_a_half_added_frame_is_noticed() -> None:
    """Ctrl-C between two fields of one frame leaves it in one cadence only."""
    run = faults.begin(FaultySink(np.random.default_rng(1)))
    fill(run.writer, 4)
    run.writer._buffer._steps[0].append(4)
    with pytest.raises(WriterError, match="interrupted"):
        run.writer.commit()


@pytest.mark.parametrize("step", [2**62, 2**63, 2**70, -1, 2.5])
def test_impossible_steps_are_refused(step: Any) -> None:
    run = faults.begin(FaultySink(np.random.default_rng(1)))
    with pytest.raises((WriterError, stepson.SchemaError), match="step"):
        run.writer.append(step=step, **faults.values_at(0))
    with pytest.raises((WriterError, stepson.SchemaError), match="step"):
        run.writer.extend(steps=[step], positions=np.zeros((1, 3, 3)))
    faults.go_on(run, 1)
    assert faults.state_of(run.sink.platter) == run.states[-1]


def test_slow_disk_gets_what_was_appended() -> None:
    """Buffers are not reused while the thread still writes them."""

    class Slow(FaultySink):
        def write(self, parts: Sequence[Buffer]) -> None:
            time.sleep(0.002)
            super().write(parts)

    sink = Slow(np.random.default_rng(1))
    run = faults.begin(sink, threaded=True)
    for _ in range(30):
        fill(run.writer, 5)
        run.writer.checkpoint(faults.checkpoint_at(run.writer.frames))
        run.writer.commit(wait=False)
    run.writer.flush()
    assert faults.state_of(sink.platter) == State(150, 150)


@pytest.mark.parametrize("threaded", [False, True])
def test_arrays_may_be_reused_after_they_were_handed_in(
    tmp_path: Path, threaded: bool
) -> None:
    fields = [stepson.Field("x", "float32", ("atom", 3), "Å")]
    path = tmp_path / "x.son"
    with stepson.create(path, fields=fields, numbers=[1] * 2000, threaded=threaded) as out:
        one, many = np.zeros((2000, 3), "f4"), np.zeros((40, 2000, 3), "f4")
        state = {"positions": np.zeros((2000, 3)), "nested": {"list": [np.zeros(500)]}}
        for first in range(0, 400, 41):
            one[:] = first
            out.append(step=first, x=one)
            one[:] = np.nan
            many[:] = np.arange(first + 1, first + 41)[:, None, None]
            out.extend(steps=range(first + 1, first + 41), x=many)
            many[:] = np.nan
            state["positions"][:] = first  # type: ignore[index]
            state["nested"]["list"][0][:] = first  # type: ignore[index]
            out.checkpoint(state)
            state["positions"][:] = np.nan  # type: ignore[index]
            state["nested"]["list"][0][:] = np.nan  # type: ignore[index]
            out.commit(wait=False)
    with stepson.open(path) as trajectory:
        values = trajectory["x"][:]
        assert np.array_equal(values[:, 7, 1], trajectory.steps[:])
        assert np.all(values == values[:, :1, :1])
        found = trajectory.checkpoint()
    assert np.all(found["positions"] == 369)
    assert np.all(found["nested"]["list"][0] == 369)


def test_metadata_may_be_reused(tmp_path: Path) -> None:
    table = np.arange(5.0)
    with stepson.create(
        tmp_path / "x.son", fields=faults.FIELDS, numbers=[1] * 3, metadata={"t": table}
    ) as out:
        table[:] = -1
        fill(out, 2)
    with stepson.open(tmp_path / "x.son") as trajectory:
        assert np.array_equal(trajectory.metadata["t"], np.arange(5.0))


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("ending", ["exit", "close", "commit"])
def test_a_forked_child_leaves_the_file_alone(
    tmp_path: Path, threaded: bool, ending: str
) -> None:
    path = tmp_path / "md.son"
    writer = new(path, threaded=threaded)
    fill(writer, 5)
    writer.commit()
    fill(writer, 5)
    size = path.stat().st_size
    child = os.fork()
    if child == 0:
        os._exit(_in_child(writer, ending))
    assert _status(child) == 0
    assert path.stat().st_size == size
    with pytest.raises(WriterError, match="being written"):
        stepson.open(path, "a")
    fill(writer, 5)
    writer.commit()
    writer.close()
    with stepson.open(path) as trajectory:
        assert faults.read_state(trajectory).frames == 15
        assert trajectory.sealed


def _in_child(writer: stepson.Writer, ending: str) -> int:
    """What a child might do with what it inherited; 0 where it does no harm."""
    signal.alarm(20)
    try:
        if ending == "exit":
            with writer:
                raise SystemExit
        elif ending == "close":
            writer.close()
        else:
            writer.commit()
    except (SystemExit, StepsonError):
        return 0
    return 0 if ending == "close" else 1


def _status(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.fixture
def size_limit() -> Iterator[Any]:
    """Limit the size of files of this process, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("extra", [0, 1, 100, 700, 1500])
def test_full_disk_keeps_what_was_committed(
    tmp_path: Path, size_limit: Any, extra: int
) -> None:
    path = tmp_path / "md.son"
    writer = new(path)
    fill(writer, 5)
    writer.commit()
    size_limit(path.stat().st_size + extra)
    fill(writer, 40)
    with pytest.raises(WriterError):
        writer.commit()
    with pytest.raises(WriterError):
        writer.close()
    assert path.stat().st_size <= writer.bytes_written + extra
    with stepson.open(path) as trajectory:
        assert faults.read_state(trajectory).frames == 5
    with pytest.raises(WriterError):
        stepson.open(path, "a").commit()
    size_limit(resource.RLIM_INFINITY)
    with stepson.open(path, "a", commit="manual") as out:
        fill(out, 3)
    with stepson.open(path) as trajectory:
        assert faults.read_state(trajectory).frames == 8


def test_a_deleted_file_is_noticed(tmp_path: Path) -> None:
    """Nothing is left of what is written to a file without a name; renamed it is safe."""
    writer = new(tmp_path / "a.son")
    fill(writer, 3)
    writer.commit()
    (tmp_path / "a.son").rename(tmp_path / "b.son")
    fill(writer, 3)
    writer.commit()
    (tmp_path / "b.son").unlink()
    fill(writer, 3)
    with pytest.raises(WriterError, match=r"a\.son: the file was deleted"):
        writer.commit()
    writer.abandon()


def test_a_stranger_who_appends_is_noticed() -> None:
    sink = FaultySink(np.random.default_rng(3))
    run = faults.begin(sink)
    faults.go_on(run, 2)
    sink.cache += b"stranger"
    fill(run.writer, 2)
    with pytest.raises(WriterError, match="bytes"):
        run.writer.commit()
    assert faults.state_of(sink.cache) == run.states[-1]


@pytest.mark.parametrize("length", [1, 63, 64, 300_000, 3_000_000])
@pytest.mark.parametrize("what", ["zeros", "noise", "old blocks"])
def test_a_long_torn_tail_is_crossed(length: int, what: str) -> None:
    sink = FaultySink(np.random.default_rng(4))
    run = faults.begin(sink)
    faults.go_on(run, 4)
    whole = sink.platter
    tail = {
        "zeros": b"\0" * length,
        "noise": np.random.default_rng(length).bytes(length),
        "old blocks": (whole[64:] * (2 * length // len(whole) + 2))[:length],
    }[what]
    image = whole + tail
    trajectory = Trajectory(Bytes(image), faults.NOWHERE)
    assert trajectory.torn_bytes == length
    assert faults.read_state(trajectory) == run.states[-1]
    again = FaultySink(np.random.default_rng(5), cache=image, platter=image)
    writer = resume(again, faults.NOWHERE, commit="manual", threaded=False)
    more = Run(writer, again, [run.states[-1]])
    faults.go_on(more, 2)
    assert faults.state_of(again.platter) == more.states[-1]


def test_power_loss_around_an_index() -> None:
    """Crashes while the 256th commit brings INDEX and SCALARS, and after."""
    sink = FaultySink(np.random.default_rng(6))
    run = faults.begin(sink)
    faults.go_on(run, 252)
    durable, skip = sink.platter, len(sink.events)
    faults.go_on(run, 8)
    rng = np.random.default_rng(7)
    count = 0
    for image, acknowledged in faults.crashes(sink.events[skip:], rng, 1, durable):
        count += 1
        trajectory = Trajectory(Bytes(image), faults.NOWHERE)
        found = State(len(trajectory), max(trajectory.checkpoint_steps, default=None))
        assert found in run.states[252 + acknowledged :]
        if count % 25 == 0:
            assert faults.read_state(trajectory) == found
    assert count > 40
    for cut in range(len(durable), len(sink.platter), 448):
        trajectory = Trajectory(Bytes(sink.platter[:cut]), faults.NOWHERE)
        found = State(len(trajectory), max(trajectory.checkpoint_steps, default=None))
        assert found in run.states[252:]
    run.writer.close()
    sealed = Trajectory(Bytes(sink.platter), faults.NOWHERE)
    assert faults.read_state(sealed) == run.states[-1]
    assert sealed.verify(deep=True).ok


def test_loser_of_a_race_to_create_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "md.son"
    threads = threading.active_count()
    first = new(path)

    def nobody_there(_: Any) -> bool:
        return False

    monkeypatch.setattr(os.path, "lexists", nobody_there)
    with pytest.raises(WriterError, match="exists"):
        new(path)
    assert threading.active_count() == threads + 1
    assert sorted(os.listdir(tmp_path)) == ["md.son", "md.son.lock"]
    first.close()
    assert os.listdir(tmp_path) == ["md.son"]
