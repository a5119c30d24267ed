"""Crashes of every kind: nothing committed is lost, nothing wrong is read, and it goes on.

Written against the design of the container alone. After power loss, a failing disk, a kill,
a cut or a flipped byte, a file shows one of the states that were committed, never an older
one than was acknowledged; any error is a `StepsonError`; and appending goes on from that
state.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from stepson.errors import FormatError, StepsonError, WriterError
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writing import resume
from tests.stepson import faults
from tests.stepson.faults import Fault, FaultySink, Run, State

pytestmark = pytest.mark.filterwarnings("ignore::stepson.DamageWarning")


def recorded(seed: int, commits: int = 5, close: bool = False, **options: Any) -> Run:
    sink = FaultySink(np.random.default_rng(seed))
    run = faults.begin(sink, **options)
    faults.go_on(run, commits)
    if close:
        run.writer.close()
    return run


def assert_survived(image: bytes, run: Run, acknowledged: int) -> None:
    """The image shows a committed state that is not older than the acknowledged one."""
    state = faults.state_of(image)
    if isinstance(state, StepsonError):
        assert acknowledged == 0, f"{state}; {acknowledged} commits were acknowledged"
        assert isinstance(state, FormatError)
        return
    assert state in run.states[max(acknowledged - 1, 0) :]


def assert_goes_on(image: bytes, seed: int) -> None:
    """Appending to the image keeps its state, and what comes after is kept too."""
    before = faults.state_of(image)
    if isinstance(before, StepsonError):
        return
    sink = FaultySink(np.random.default_rng(seed), cache=image, platter=image)
    writer = resume(sink, faults.NOWHERE, commit="manual", threaded=False)
    assert sink.cache.startswith(image)
    run = Run(writer, sink, [before])
    faults.go_on(run, 2)
    assert faults.state_of(sink.platter) == run.states[-1]
    writer.close()
    sealed = Trajectory(Bytes(sink.platter), faults.NOWHERE)
    assert sealed.sealed
    assert sealed.torn_bytes == 0
    assert sealed.verify(deep=True).ok
    assert faults.read_state(sealed) == run.states[-1]


@pytest.mark.parametrize("seed", range(6))
def test_power_loss_at_any_moment(seed: int) -> None:
    run = recorded(seed, close=seed % 2 == 0)
    rng = np.random.default_rng(seed)
    for number, (image, acknowledged) in enumerate(faults.crashes(run.sink.events, rng, 4)):
        assert_survived(image, run, acknowledged)
        if number % 9 == 0:
            assert_goes_on(image, number)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_power_loss_many(seed: int) -> None:
    run = recorded(seed, commits=8, close=seed % 2 == 0)
    rng = np.random.default_rng(seed)
    for number, (image, acknowledged) in enumerate(
        faults.crashes(run.sink.events, rng, 12)
    ):
        assert_survived(image, run, acknowledged)
        if number % 5 == 0:
            assert_goes_on(image, number)


@pytest.mark.parametrize("seed", range(3))
def test_power_loss_again_and_again(seed: int) -> None:
    """Ten lives of one file: each is cut short by a power loss and goes on from what is
    left."""
    rng = np.random.default_rng(seed)
    run = recorded(seed, commits=2)
    image, state = run.sink.platter, run.states[-1]
    for life in range(10):
        sink = FaultySink(np.random.default_rng(life), cache=image, platter=image)
        writer = resume(sink, faults.NOWHERE, commit="manual", threaded=False)
        run = Run(writer, sink, [state])
        faults.go_on(run, int(rng.integers(0, 4)))
        points = list(faults.crashes(sink.events, rng, 3, durable=image))
        image, acknowledged = points[rng.integers(len(points))]
        found = faults.state_of(image)
        assert isinstance(found, State), str(found)
        assert found in run.states[acknowledged:]
        state = found


@pytest.mark.parametrize("kind", ["enospc", "eio", "short"])
@pytest.mark.parametrize("threaded", [False, True])
def test_disk_fails_at_any_call(kind: str, threaded: bool) -> None:
    total = recorded(1).sink.calls
    assert total > 10
    for call in range(1, total + 1):
        rng = np.random.default_rng(1)
        sink = FaultySink(rng, fault=Fault(call, kind))
        states = [State(0, None)]
        try:
            run = faults.begin(sink, threaded=threaded)
        except WriterError:
            continue
        run.states = states
        with pytest.raises(WriterError):
            faults.go_on(run, 5)
        with pytest.raises(WriterError):
            run.writer.commit()
        with contextlib.suppress(WriterError):
            run.writer.close()
        assert not sink.abused, f"call {call}: the descriptor was used after it had failed"
        acknowledged = sum(event.kind == "acknowledged" for event in sink.events)
        for image in (sink.cache, sink.platter, faults.lose(sink.platter, b"", rng)):
            assert_survived(image, run, acknowledged)
        assert_goes_on_after_failure(sink, run, acknowledged)


def assert_goes_on_after_failure(sink: FaultySink, run: Run, acknowledged: int) -> None:
    """The same machine, a new process: the cache may show what the platter does not
    have."""
    again = FaultySink(np.random.default_rng(2), cache=sink.cache, platter=sink.platter)
    # the pages count as clean: a sync does nothing, and only `forget` shows the platter
    writer = resume(again, faults.NOWHERE, commit="manual", threaded=False)
    assert again.cache == again.platter
    state = faults.state_of(again.platter)
    assert isinstance(state, State), str(state)
    assert state in run.states[acknowledged - 1 :]
    more = Run(writer, again, [state])
    faults.go_on(more, 2)
    assert faults.state_of(again.platter) == more.states[-1]


def bounds_of(run: Run) -> list[int]:
    """Sizes of the file after each acknowledged commit."""
    sizes, size = [], 0
    for event in run.sink.events:
        size += len(event.data)
        if event.kind == "acknowledged":
            sizes.append(size)
    return sizes


@pytest.mark.parametrize("close", [False, True])
def test_cut_at_every_byte_of_the_last_two_transactions(close: bool) -> None:
    run = recorded(3, commits=4, close=close)
    whole, sizes = run.sink.platter, bounds_of(run)
    for cut in range(sizes[-3], len(whole)):
        acknowledged = sum(size <= cut for size in sizes)
        trajectory = Trajectory(Bytes(whole[:cut]), faults.NOWHERE)
        found = State(len(trajectory), max(trajectory.checkpoint_steps, default=None))
        assert found == run.states[acknowledged - 1], f"cut at {cut}"
        if cut <= sizes[-1]:
            assert trajectory.torn_bytes == cut - sizes[acknowledged - 1]
        if cut % 97 == 0:
            assert_goes_on(whole[:cut], cut)


def test_cut_before_the_first_commit_is_no_file() -> None:
    run = recorded(3, commits=1)
    for cut in range(bounds_of(run)[0]):
        assert isinstance(faults.state_of(run.sink.platter[:cut]), FormatError)


@pytest.mark.parametrize("close", [False, True])
def test_flip_anywhere_is_an_error_or_harmless(close: bool) -> None:
    run = recorded(4, commits=3, close=close)
    flips(run, close, stride=9)


@pytest.mark.slow
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_flip_of_every_byte(close: bool, seed: int) -> None:
    run = recorded(40 + seed, commits=3, close=close)
    flips(run, close, stride=1)


def flips(run: Run, sealed: bool, stride: int) -> None:
    """A flip may take back the last transaction of an unsealed file, and nothing else."""
    whole, sizes, rng = run.sink.platter, bounds_of(run), run.sink.rng
    errors = 0
    for place in range(0, len(whole), stride):
        image = bytearray(whole)
        image[place] ^= 1 << int(rng.integers(8))
        state = faults.state_of(bytes(image))
        if isinstance(state, StepsonError):
            errors += 1
            continue
        torn = not sealed and place >= sizes[-2]
        allowed = run.states[-2:] if torn else run.states[-1:]
        assert state in allowed, f"flip at {place} of {len(whole)}: {state}"
    assert errors > len(whole) / stride / 4


@pytest.mark.parametrize("length", [1, 64, 500])
def test_noise_anywhere_is_an_error_or_harmless(length: int) -> None:
    run = recorded(5, commits=3, close=True)
    whole, rng = run.sink.platter, np.random.default_rng(length)
    for _ in range(150):
        place = int(rng.integers(len(whole)))
        image = bytearray(whole)
        image[place : place + length] = rng.bytes(min(length, len(whole) - place))
        state = faults.state_of(bytes(image))
        assert isinstance(state, StepsonError) or state in run.states


def test_transactions_of_another_file_do_not_count() -> None:
    """The end of one file behind another: same layout, other uuid."""
    one, other = recorded(6, commits=2), recorded(7, commits=2)
    image = one.sink.platter + other.sink.platter
    image += b"\0" * (-len(image) % 64)
    assert faults.state_of(image) == one.states[-1]
    assert_goes_on(image, 1)


def test_a_copy_of_old_transactions_does_not_count() -> None:
    """Its own old commits again, further behind: right uuid, wrong offset."""
    run = recorded(8, commits=3)
    whole, sizes = run.sink.platter, bounds_of(run)
    image = whole + whole[sizes[0] :]
    assert faults.state_of(image) == run.states[-1]
    assert_goes_on(image, 2)


def test_a_superseded_commit_does_not_come_back() -> None:
    """A torn transaction whose COMMIT survived, then others: it stays outside of the
    chain."""
    run = recorded(9, commits=3)
    whole, sizes = run.sink.platter, bounds_of(run)
    torn = bytearray(whole)
    torn[sizes[-2] + 40] ^= 0xFF  # the last transaction loses its first record
    assert faults.state_of(bytes(torn)) == run.states[-2]
    sink = FaultySink(np.random.default_rng(1), cache=bytes(torn), platter=bytes(torn))
    writer = resume(sink, faults.NOWHERE, commit="manual", threaded=False)
    again = Run(writer, sink, [run.states[-2]])
    faults.go_on(again, 3)
    writer.close()
    trajectory = Trajectory(Bytes(sink.platter), faults.NOWHERE)
    assert faults.read_state(trajectory) == again.states[-1]
    assert trajectory.verify(deep=True).ok


WRITER = """
import sys
import numpy as np
from pathlib import Path
import stepson
from tests.stepson import faults
path = Path(sys.argv[1])
if path.exists():
    out = stepson.open(path, "a", commit="manual")
    first = 0 if out.last_step is None else out.last_step + 1
else:
    out = stepson.create(path, fields=faults.FIELDS, numbers=np.arange(1, faults.ATOMS + 1),
                         metadata={"seed": 7, "table": np.arange(40.0)}, commit="manual")
    first = 0
print(-1, flush=True)
step = first
while True:
    for step in range(step, step + 7):
        out.append(step=step, **faults.values_at(step))
    step += 1
    out.checkpoint(faults.checkpoint_at(step))
    out.commit()
    print(step, flush=True)
"""


def killed_after(path: Path, seconds: float) -> int:
    """Run a writer, kill it this long after it said that it is ready; frames
    acknowledged."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    ready = process.stdout.readline()
    if not ready:
        raise AssertionError(process.stderr.read().decode())
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    rest, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    lines = rest.decode().splitlines(keepends=True)
    whole = [int(line) for line in lines if line.endswith("\n")]
    return max(whole, default=-1)


def kill_rounds(path: Path, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    acknowledged = 0
    for _ in range(rounds):
        acknowledged = max(acknowledged, killed_after(path, float(rng.uniform(0, 0.12))))
        with stepson.open(path) as trajectory:
            state = faults.read_state(trajectory)
        assert state.frames >= acknowledged
        assert state.checkpoint == (state.frames or None)
    with stepson.open(path, "a", commit="manual", threaded=False) as out:
        step = state.frames
        out.append(step=step, **faults.values_at(step))
    with stepson.open(path) as trajectory:
        assert faults.read_state(trajectory).frames == state.frames + 1
        assert trajectory.sealed
        assert trajectory.verify(deep=True).ok


def test_killed_writer_loses_nothing_committed(tmp_path: Path) -> None:
    kill_rounds(tmp_path / "md.son", 5, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_writer_many_times(tmp_path: Path, seed: int) -> None:
    kill_rounds(tmp_path / "md.son", 20, seed)


def life(image: bytes, state: State, frames: int) -> tuple[FaultySink, State]:
    """Open for append and commit some frames."""
    sink = FaultySink(np.random.default_rng(1), cache=image, platter=image)
    writer = resume(sink, faults.NOWHERE, commit="manual", threaded=False)
    end = state.frames + frames
    for step in range(state.frames, end):
        writer.append(step=step, **faults.values_at(step))
    writer.commit()
    return sink, State(end, state.checkpoint)


def test_what_an_earlier_life_left_on_the_disk_hides_no_commit() -> None:
    """A long transaction is lost, but not its sectors; the next life is shorter.

    Behind its commits stands a whole COMMIT of the earlier life at its own offset, which
    knows nothing of them.
    """
    run = recorded(2, commits=2)
    base, state = run.sink.platter, run.states[-1]
    first, _ = life(base, state, frames=60)
    opened = next(e for e in first.events if e.kind == "sync")
    note = b"".join(
        e.data for e in first.events[: first.events.index(opened)] if e.kind == "write"
    )
    second, after = life(base + note, state, frames=2)
    assert len(second.platter) < len(first.platter)
    third, final = life(second.platter, after, frames=2)
    for committed, expected in ((second.platter, after), (third.platter, final)):
        image = committed + first.platter[len(committed) :]
        assert faults.state_of(image) == expected
        assert_goes_on(image, 3)


def test_verify_tells_a_damaged_last_commit_of_a_closed_file() -> None:
    run = recorded(4, commits=3, close=True)
    image = bytearray(run.sink.platter)
    place = image.rindex(b"\xd5SON\x06\x00")
    image[place + 100] ^= 1
    trajectory = Trajectory(Bytes(bytes(image)), faults.NOWHERE)
    assert faults.read_state(trajectory) == run.states[-1]
    assert not trajectory.verify().ok
