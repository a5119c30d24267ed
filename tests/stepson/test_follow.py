"""Following a file while it is written."""

import errno
import hashlib
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import stepson
from stepson import DamagedError, FormatError, SchemaError
from stepson.follow import Follower
from stepson.frame import Frame
from stepson.opening import Header
from stepson.schema import Schema
from stepson.source import LocalFile
from stepson.writing import resume, start
from tests.stepson.files import FIELDS, Memory, create, frame
from tests.stepson.servers import http_server

PAGE = 512


def test_frames_come_as_they_are_committed(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    frames = iter(stepson.open(path, follow=True, poll=0.0))
    for step in (0, 2, 4):
        writer.append(step, **frame(step))
        writer.commit()
        found = next(frames)
        assert found.step == step
        assert found.energy == step
    writer.append(6, **frame(6))
    writer.append(8, **frame(8))
    writer.close()
    assert [each.step for each in frames] == [6, 8]
    with stepson.open(path, "a") as again:
        again.append(10, **frame(10))
    assert [each.step for each in stepson.open(path, follow=True)] == [0, 2, 4, 6, 8, 10]


def test_timeout(tmp_path: Path) -> None:
    writer = create(tmp_path / "md.son", threaded=False)
    writer.append(0, **frame(0))
    writer.commit()
    follower = stepson.open(tmp_path / "md.son", follow=True, timeout=0.05, poll=0.01)
    assert [each.step for each in follower] == [0]
    writer.close()


def test_frames_stay_readable(tmp_path: Path) -> None:
    """A frame that was handed out is read long after the look that found it."""
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    frames = iter(stepson.open(path, follow=True, poll=0.0))
    kept = []
    for step in range(0, 20, 2):
        writer.append(step, **frame(step))
        writer.commit()
        kept.append(next(frames))
    writer.close()
    check(kept, list(range(0, 20, 2)))


def check(frames: list[Frame], steps: list[int]) -> None:
    assert [each.step for each in frames] == steps
    for each in frames:
        expected = frame(each.step)
        for name in ("energy", "heat_flux", "positions"):
            found = each[name]
            if name in expected:
                assert found is not None
                assert np.array_equal(found, expected[name])
            else:
                assert found is None


def test_frames_taken_back(tmp_path: Path) -> None:
    """A power failure may take back a commit that a follower has seen."""
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    sizes = []
    for step in (0, 2):
        writer.append(step, **frame(step))
        writer.commit()
        sizes.append(path.stat().st_size)
    frames = iter(stepson.open(path, follow=True, poll=0.0))
    assert [next(frames).step, next(frames).step] == [0, 2]
    writer.abandon()
    os.truncate(path, sizes[1] - 1)
    with stepson.open(path, "a", threaded=False) as again:
        again.append(4, **frame(4))
    with pytest.raises(FormatError, match="from step 1 on were taken back"):
        next(frames)


def test_taken_back_and_far_beyond(tmp_path: Path) -> None:
    """The fork is found by the index, and the last step that is left is named."""
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    sizes = []
    for step in range(0, 20, 2):
        writer.append(step, **frame(step))
        writer.commit()
        sizes.append(path.stat().st_size)
    frames = iter(stepson.open(path, follow=True, poll=0.0))
    assert [next(frames).step for _ in range(10)] == list(range(0, 20, 2))
    writer.abandon()
    os.truncate(path, sizes[5])
    with stepson.open(path, "a", commit="manual", threaded=False) as again:
        for step in range(12, 60, 2):
            again.append(step, **frame(step))
            again.commit()
    with pytest.raises(FormatError, match="from step 11 on were taken back"):
        next(frames)


@pytest.mark.parametrize("fate", ["shorter", "replaced", "deleted", "garbage"])
def test_what_looks_bad_for_long_is_an_error(tmp_path: Path, fate: str) -> None:
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    sizes = []
    for step in (0, 2):
        writer.append(step, **frame(step))
        writer.commit()
        sizes.append(path.stat().st_size)
    writer.abandon()
    follower = stepson.open(path, follow=True, poll=0.0, patience=0.3)
    frames = iter(follower)
    assert [next(frames).step, next(frames).step] == [0, 2]
    if fate == "shorter":
        os.truncate(path, sizes[0])
    elif fate == "garbage":
        path.write_bytes(bytes(sizes[1]))
    else:
        path.unlink()
    if fate == "replaced":
        create(path, threaded=False).close()
    begin = time.monotonic()
    words = {
        "shorter": "has become shorter, frames from step 1 on are gone",
        "replaced": "another file has taken its place",
        "deleted": "cannot be read any more: No such file",
        "garbage": r"not a \.son file",
    }
    with pytest.raises(FormatError, match=words[fate]) as caught:
        next(frames)
    assert str(path) in str(caught.value)
    assert 0.3 <= time.monotonic() - begin < 10


def test_damage_is_told_after_patience(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    for step in (0, 2, 4):
        writer.append(step, **frame(step))
        writer.commit()
    writer.close()
    with stepson.open(path) as traj:
        block = traj.reader.block(traj.reader.unit_of_frame(1))
        place = next(block.ranges("energy"))[0]
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    first, second = list(stepson.open(path, follow=True, poll=0.0, patience=0.2))[:2]
    assert first.energy == 0.0
    with pytest.raises(DamagedError, match="energy"):
        second.energy  # noqa: B018


class World:
    """A file in memory whose writer does one thing more at each `step`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sink = Memory()
        self.history = [b""]
        self.steps: list[int] = []
        self.sealed = False
        self.script = self._script()
        next(self.script)

    def __call__(self, _: float) -> None:
        next(self.script, None)

    def _script(self) -> Iterator[None]:
        content = {"numbers": np.array([18] * 3), "timestep": 4.0}
        header, schema = Header(uuid4().bytes, "", "tests"), Schema(FIELDS, 3)
        options: Any = {"commit": "manual", "threaded": False}
        path = Path("md.son")
        writer = start(self.sink, path, header, schema, content, **options)
        step = 0
        self._note()
        yield
        for _ in range(40):
            what = self.random.random()
            for _ in range(self.random.choice([1, 1, 3, 40])):
                writer.append(step, **frame(step))
                self.steps.append(step)
                step += 2
            if what < 0.15:
                writer.checkpoint({"step": step})
            writer.commit()
            if what > 0.9:
                writer.abandon()
                self._note()
                self.sink.data += self.random.randbytes(self.random.randrange(900))
                self._note()
                yield
                writer = resume(self.sink, path, **options)
            if what > 0.3:
                self._note()
                yield
        writer.close()
        self.sealed = True
        while True:
            self._note()
            yield

    def _note(self) -> None:
        """Remember how the file was: a cache may show it."""
        self.history.append(self.sink.data)


class Liar:
    """The world through the cache of a network file system at its worst."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.looks = self.stubborn = 0
        self.look()

    @property
    def size(self) -> int:
        return len(self.data) + self.ahead

    def read_at(self, offset: int, length: int) -> bytes:
        if self.short:
            return self.data[offset : offset + length]
        length = max(0, min(length, self.size - offset))
        return self.data[offset : offset + length].ljust(length, b"\0")

    def close(self) -> None:
        pass

    def glance(self) -> object:
        if self.world.random.random() < 0.1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return self.world.random.random()

    def look(self) -> None:
        world = self.world
        if self.stubborn:
            self.stubborn -= 1
            return
        self.looks += 1
        self.stubborn = world.random.choice([0, 0, 3]) if self.looks > 1 else 0
        lie = world.random.choice(["none", "old", "ahead", "pages"])
        self.short = world.random.random() < 0.5
        self.ahead = world.random.choice([0, 100, 64, 10**5]) if lie == "ahead" else 0
        self.data = world.sink.data
        if self.looks > 1 and lie == "old":
            self.data = world.random.choice(world.history[1:])
        if self.looks > 1 and lie == "pages":
            self.data = self.patched(world.random.choice(world.history))

    def patched(self, old: bytes) -> bytes:
        """Some pages as they were; the size of now."""
        data, old = bytearray(self.data), old.ljust(len(self.data), b"\0")
        for at in range(0, len(data), PAGE):
            if self.world.random.random() < 0.2:
                data[at : at + PAGE] = old[at : at + PAGE][: len(data) - at]
        return bytes(data)

    forget = look


@pytest.mark.filterwarnings("ignore::stepson.DamageWarning")
@pytest.mark.parametrize("seed", range(25))
def test_stale_caches(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is shown meanwhile: every frame once, in order, with its own values."""
    world = World(seed)
    monkeypatch.setattr("stepson.follow.sleep", world)
    follower = Follower(Liar(world), "liar.son", poll=0.0)
    found = 0
    for each in follower:
        if world.random.random() < 0.3:
            world(0.0)
        check([each], [world.steps[found]])
        found += 1
    assert world.sealed
    assert found == len(world.steps)


class Counted(LocalFile):
    """Counts what looks cost."""

    reads = 0
    bytes_read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        found = super().read_at(offset, length)
        self.reads += 1
        self.bytes_read += len(found)
        return found


def cost_of_a_look(path: Path, later: bytes) -> tuple[int, int]:
    source = Counted(path)
    follower = Follower(source, path, poll=0.0)
    path.write_bytes(later)
    source.reads = source.bytes_read = 0
    assert follower.look()
    found = source.reads, source.bytes_read
    follower.close()
    return found


def test_a_look_costs_the_same_for_any_size(tmp_path: Path) -> None:
    """Many commits between two looks: no read for each."""
    path = tmp_path / "md.son"
    sink = Memory()
    content = {"numbers": np.array([18] * 3), "timestep": 4.0}
    header, schema = Header(uuid4().bytes, "", "tests"), Schema(FIELDS, 3)
    options: Any = {"commit": "manual", "threaded": False}
    writer = start(sink, path, header, schema, content, **options)
    sizes = []
    for step in range(0, 1400, 2):
        writer.append(step, **frame(step))
        writer.commit()
        sizes.append(len(sink.data))
    costs: list[tuple[int, int]] = []
    for before, after in ((5, 6), (5, 700), (600, 601), (600, 700), (300, 650)):
        path.write_bytes(sink.data[: sizes[before - 1]])
        costs.append(cost_of_a_look(path, sink.data[: sizes[after - 1]]))
    assert max(reads for reads, _ in costs) <= 30
    assert max(size for _, size in costs) < 600_000


def test_waiting_costs_little(tmp_path: Path) -> None:
    """A glance reads nothing; a thousand of them take a fraction of a second."""
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    writer.append(0, **frame(0))
    writer.commit()
    source = Counted(path)
    follower = Follower(source, path)
    follower.look()
    source.reads = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for _ in range(1000):
        assert not follower.look()
    assert source.reads == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 1.0
    writer.close()


def test_by_url(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(3)
    with http_server() as server:
        server.content["/md.son"] = world.sink.data

        def work(_: float) -> None:
            world(0.0)
            server.content["/md.son"] = world.sink.data

        monkeypatch.setattr("stepson.follow.sleep", work)
        follower = stepson.open(server.url + "md.son", follow=True, poll=0.0)
        found = 0
        for each in follower:
            check([each], [world.steps[found]])
            found += 1
        assert world.sealed
        assert found == len(world.steps)


def test_waiting_by_url_asks_for_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    writer = create(path, threaded=False)
    with http_server() as server:
        server.content["/md.son"] = path
        follower = stepson.open(server.url + "md.son", follow=True, poll=0.0)
        follower.look()
        server.reset()
        for _ in range(5):
            assert not follower.look()
        assert len(server.asked) == 5
        assert server.sent == 5
    writer.close()


WRITER = """
import sys, time
from pathlib import Path
import stepson
from tests.stepson.files import create, frame
path, first, last, seal = Path(sys.argv[1]), *map(int, sys.argv[2:5])
options = dict(commit="manual", threaded=bool(first % 4))
out = stepson.open(path, "a", **options) if path.exists() else create(path, **options)
for step in range(first, last, 2):
    if step > out.last_step if out.frames else True:
        out.append(step, **frame(step))
        if step % 14 == 0:
            out.commit()
if seal:
    out.close()
else:
    out.commit()
    out.flush()
    out.append(last + 1000, **frame(last + 1000))
    print("ready", flush=True)
    time.sleep(60)
"""

READER = """
import hashlib, sys
import stepson
digest, steps = hashlib.sha256(), []
for each in stepson.open(sys.argv[1], follow=True, poll=0.01, timeout=60):
    steps.append(each.step)
    for name in ("energy", "heat_flux", "positions"):
        value = each[name]
        digest.update(b"-" if value is None else value.tobytes())
print(len(steps), digest.hexdigest())
"""


def expected(last: int) -> str:
    digest = hashlib.sha256()
    for step in range(0, last, 2):
        found = frame(step)
        for name in ("energy", "heat_flux", "positions"):
            value = found.get(name)
            digest.update(b"-" if value is None else np.asarray(value).tobytes())
    return f"{last // 2} {digest.hexdigest()}"


def process(code: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


ROOT = Path(__file__).parents[2]


def test_processes(tmp_path: Path) -> None:
    """Three readers while a writer works, is killed, another goes on, and seals."""
    path = tmp_path / "md.son"
    with process(WRITER, path, 0, 300, 0) as first:
        assert first.stdout is not None
        while not path.exists():
            time.sleep(0.01)
        readers = [process(READER, path) for _ in range(3)]
        assert first.stdout.readline() == "ready\n"
        first.send_signal(signal.SIGKILL)
    with process(WRITER, path, 300, 600, 1) as second:
        assert second.wait(60) == 0
    outputs = [each.communicate(timeout=60)[0].strip() for each in readers]
    assert outputs == list(itertools.repeat(expected(600), 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("poll", -1), ("poll", float("nan")), ("poll", float("inf")), ("poll", True)],
        *[("timeout", "x"), ("timeout", -0.1), ("patience", None), ("patience", [1])],
    ],
)
def test_seconds_that_are_none(tmp_path: Path, name: str, value: Any) -> None:
    create(tmp_path / "md.son").close()
    with pytest.raises(SchemaError, match=rf"follow=True.*{name} is a number of seconds"):
        stepson.open(tmp_path / "md.son", follow=True, **{name: value})


def test_a_follower_closes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    with create(path) as out:
        out.append(0, **frame(0))
    before = len(os.listdir("/proc/self/fd"))
    with stepson.open(path, follow=True) as follower:
        assert [each.step for each in follower] == [0]
    assert len(os.listdir("/proc/self/fd")) == before


ATOMS = 4000
"""More than the ends of the file that are kept hold a small part of it."""
RAW = (stepson.Field("positions", "float64", ("atom", 3), "Å", codec="raw"),)


def replica(path: Path, value: float, commits: int = 12) -> None:
    """A file whose records stand where those of every other replica stand."""
    writer = create(path, n_atoms=ATOMS, fields=RAW, commit="manual", threaded=False)
    for step in range(commits):
        writer.append(step, positions=np.full((ATOMS, 3), value + step))
        writer.commit()
    writer.abandon()


@pytest.mark.parametrize("way", ["renamed", "written over"])
def test_frames_of_a_file_that_was_replaced(tmp_path: Path, way: str) -> None:
    """Another replica in its place: sound at every byte, and wrong."""
    path, other = tmp_path / "md.son", tmp_path / "other.son"
    replica(path, 0.0)
    replica(other, 1000.0, 14)
    follower = stepson.open(path, follow=True, poll=0.0, patience=0.0, timeout=0.0)
    frames = list(follower)
    assert frames[3].positions[0, 0] == 3.0
    if way == "renamed":
        other.rename(path)
    else:
        path.write_bytes(other.read_bytes())
    for read in (follower.look, lambda: frames[5].positions, lambda: frames[5].positions):
        with pytest.raises(FormatError, match="another file has taken its place") as caught:
            read()
        assert str(path) in str(caught.value)


def test_an_open_file_stays_open_under_another_name(tmp_path: Path) -> None:
    """What does not verify is read again, but never from a file that took the name."""
    path, other = tmp_path / "md.son", tmp_path / "other.son"
    replica(path, 0.0)
    replica(other, 1000.0)
    with stepson.open(path) as traj:
        places = [traj.reader.unit_of_frame(number).offset for number in (4, 5)]
    data = bytearray(path.read_bytes())
    data[places[0] + 5000] ^= 1
    path.write_bytes(data)
    with stepson.open(path) as traj:
        other.rename(path)
        with pytest.raises(DamagedError, match="positions"):
            traj[4].positions  # noqa: B018
        assert traj[5].positions[0, 0] == 5.0


@pytest.mark.filterwarnings("error")
def test_a_file_comes_back_while_it_is_waited_for(tmp_path: Path) -> None:
    """What a cache shows for a moment is waited for, not taken for the file."""
    path, other, kept = (tmp_path / name for name in ("md.son", "other.son", "kept.son"))
    replica(path, 0.0)
    replica(other, 1000.0)
    follower = stepson.open(path, follow=True, poll=0.0, timeout=0.0)
    frames = list(follower)
    path.rename(kept)
    other.rename(path)
    assert not follower.look()
    kept.rename(path)
    assert [each.positions[0, 0] for each in frames] == list(range(12))
