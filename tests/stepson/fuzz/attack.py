"""Every way to use a file. What may come of it: values, or an error of `stepson.errors`."""

import os
import resource
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import stepson
from stepson.errors import DamageWarning, StepsonError
from stepson.source import LocalSink
from stepson.trajectory import Trajectory
from stepson.writing import resume
from tests.stepson.crashes.cases import setting
from tests.stepson.crashes.disk import Disk
from tests.stepson.crashes.life import NOWHERE, act, born, options, plan
from tests.stepson.fuzz.container import with_slack
from tests.stepson.fuzz.mutate import mutated

__all__ = ["attack", "bounded", "example", "seeds"]

SECONDS = 20
MEMORY = 2**30
VECTORS = Path(__file__).parents[3] / "spec" / "vectors"


class Hang(BaseException):
    """It does not end."""


@lru_cache(maxsize=1)
def seeds() -> list[bytes]:
    """Files of all kinds: with spare bytes in their maps; and the vectors of the format."""
    found: list[bytes] = []
    for seed in range(40):
        model, limits = setting(1000 + seed)
        disk = Disk(model.rng)
        with limits.applied(), with_slack():
            writer = born(disk, model, **options(model.rng))
            act(writer, plan(model, int(model.rng.choice([2, 6, 20]))))
            if seed % 3:
                writer.close()
            if seed % 3 == 1:
                writer = resume(disk, NOWHERE)
                act(writer, plan(model, 3))
                writer.close()
        found.append(bytes(disk.cache))
    vectors = sorted(VECTORS.glob("**/file.son"))
    return found + [
        data for data in (p.read_bytes() for p in vectors) if 0 < len(data) < 2**17
    ]


def example(number: int) -> bytes:
    """The file of this number."""
    rng = np.random.default_rng(number)
    files = seeds()
    return mutated(rng, files[rng.integers(len(files))])


@contextmanager
def bounded() -> Iterator[None]:
    """A limit of time, and of memory above what the process has now."""

    def alarm(signum: int, frame: object) -> None:
        raise Hang

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, alarm)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def attack(data: bytes) -> int:
    """Use a file in every way; how many of them were refused.

    Raises:
        BaseException: anything but a `StepsonError`; a warning but a `DamageWarning`.
    """
    refused = 0
    with warnings.catch_warnings(), _in_memory(data) as path:
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DamageWarning)
        for use in (_read, _follow, _append, _recover):
            try:
                refused += use(path) or 0
            except StepsonError:
                refused += 1
    return refused


@contextmanager
def _in_memory(data: bytes) -> Iterator[Path]:
    """A real file without a disk."""
    descriptor = os.memfd_create("attack.son")
    try:
        os.write(descriptor, data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _read(path: Path) -> int:
    """Every way to read."""
    traj = stepson.open(path)
    calls: list[Callable[[], object]] = [
        lambda: (str(traj), repr(traj), len(traj), traj.digest, traj.parent, traj.uuid),
        lambda: traj.timestep,
        lambda: {key: traj.metadata[key] for key in traj.metadata},
        lambda: traj.checkpoint(),
        *(lambda s=step: traj.checkpoint(s) for step in (0, 3, *traj.checkpoint_steps)),
        lambda: [each.fields for each in islice(traj, 5)],
        *(lambda i=i: _frame(traj[i]) for i in (0, -1, len(traj) // 2) if len(traj)),
        lambda: traj.at_step(3).fields,
        lambda: traj.time[:],
        lambda: traj.verify(),
        lambda: traj.verify(deep=True),
        lambda: str(traj.verify(deep=True)),
    ]
    for name in traj.fields:
        calls += _column(traj, name)
    with suppress(StepsonError):
        stepson.open(path, strict=True).close()
    refused = sum(_refused(call) for call in calls)
    traj.close()
    return refused


def _column(traj: Trajectory, name: str) -> list[Callable[[], object]]:
    return [
        lambda: traj[name][:],
        lambda: traj[name][-1:],
        lambda: traj[name][:2, :1] if traj[name].field.per_atom else None,
        lambda: (traj[name].steps[:], traj[name].time[:], repr(traj[name])),
        lambda: [batch[name].shape for batch in traj.stream(name, frames=5)],
        lambda: traj[name].at_step(2),
    ]


def _frame(frame: Any) -> None:
    for name in frame.fields:
        np.asarray(frame[name])


def _refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except StepsonError:
        return True
    except IndexError as error:
        # as of any sequence that is too short
        if "sample" not in str(error):
            raise
    return False


def _follow(path: Path) -> int:
    for frame in stepson.open(path, follow=True, poll=0.0, timeout=0.0, patience=0.0):
        _frame(frame)
    return 0


def _append(path: Path) -> int:
    """Go on, and read what was appended."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    sink = LocalSink(descriptor)
    sink._linked = False  # a file in memory has no name
    try:
        writer = resume(sink, NOWHERE, commit="manual", threaded=False)
        step = 0 if writer.last_step is None else writer.last_step + 1
        step = min(
            step if field.every is None else step + (field.offset - step) % field.every
            for field in writer.fields.values()
        )
        values = {
            name: np.zeros(field.sample_shape(writer.n_atoms), field.dtype)
            for name, field in writer.fields.items()
            if field.due(step) or field.every is None
        }
        writer.checkpoint({"step": step})
        before = writer.frames
        writer.extend([step], **{name: value[None] for name, value in values.items()})
        writer.commit()
        appended = Trajectory(sink, NOWHERE)
        if len(appended) != before + 1 or appended.steps[-1] != step:
            raise AssertionError("what was appended is not there")
        writer.close()
    finally:
        sink.close()
    return 0


def _recover(path: Path) -> int:
    """Where there is such a thing."""
    recover = getattr(stepson, "recover", None)
    if recover is None:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "recovered.son"
        recover(path, target)
        if target.exists():
            with stepson.open(target) as traj:
                traj.verify(deep=True)
    return 0
