"""Real processes, killed at random moments; and a kernel that writes less than it is given.

The writer is forked from the process that runs the case, so that a kill costs milliseconds.
It tells over a pipe how much was promised to it; what it wrote is made up once more from
the seed.
"""

import os
import signal
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import stepson
from stepson.errors import FormatError
from stepson.source import Buffer
from stepson.writer import Writer
from tests.stepson.crashes.cases import Outcome, setting
from tests.stepson.crashes.life import Lost, Wrong, check, plan
from tests.stepson.crashes.model import Model, State

__all__ = ["killed", "shortened"]

LIVES = 3
ROUNDS = 40


def killed(kind: str, seed: int) -> Outcome:
    """Three writers of one file, killed one after the other; a fourth closes it."""
    model, limits = setting(seed)
    model.distinct = True
    rng = np.random.default_rng(seed)
    with limits.applied(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "md.son"
        for life in range(LIVES):
            model.rng = np.random.default_rng([seed, life])
            promised = _kill(path, model, float(10 ** rng.uniform(-4, -1.7)))
            model = _survived(path, model, promised)
        if path.exists():
            model.rng = np.random.default_rng([seed, LIVES])
            _write(path, model, 2).close()
            with stepson.open(path) as traj:
                check(traj, _visible(traj, model))
                if not (traj.sealed and traj.verify(deep=True).ok):
                    raise Wrong("not sound in the end")
            return Outcome(opened=True, appended=True)
    return Outcome(opened=False, appended=False)


def _write(path: Path, model: Model, rounds: int, pipe: int = -1) -> Writer:
    """Create or open, and write; after each call tell what is promised."""
    how: dict[str, Any] = {
        "commit": str(model.rng.choice(["auto", "manual"])),
        "commit_seconds": 0.0,
        "threaded": bool(model.rng.random() < 0.5),
    }
    if path.exists():
        writer = stepson.open(path, "a", **how)
    else:
        extra = {
            k: v for k, v in model.metadata.items() if k not in ("numbers", "timestep")
        }
        writer = stepson.create(
            path,
            fields=model.schema.fields,
            numbers=model.metadata["numbers"],
            timestep=model.metadata["timestep"],
            metadata=extra,
            **how,
        )
    _tell(pipe, writer)
    for each in plan(model, rounds):
        getattr(writer, each.name)(**each.values)
        _tell(pipe, writer)
    return writer


def _tell(pipe: int, writer: Writer) -> None:
    if pipe >= 0:
        os.write(pipe, writer.frames_committed.to_bytes(8, "little"))


def _kill(path: Path, model: Model, seconds: float) -> int:
    """Fork a writer, kill it this long after its first word; frames promised, or -1."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork, from 3.12
        child = os.fork()
    if child == 0:
        _child(path, model, reading, writing)
    os.close(writing)
    words = os.read(reading, 8)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while more := os.read(reading, 2**16):
        words += more
    os.close(reading)
    if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
        raise AssertionError(f"the writer ended with {os.waitstatus_to_exitcode(status)}")
    whole = len(words) // 8 * 8
    return int.from_bytes(words[whole - 8 : whole], "little") if whole else -1


def _child(path: Path, model: Model, reading: int, writing: int) -> None:
    """What the writer does until it is killed."""
    status = 1
    try:
        os.close(reading)
        _write(path, model, ROUNDS, writing).close()
        status = 0
    finally:
        os._exit(status)


def _survived(path: Path, model: Model, promised: int) -> Model:
    """What is there is what was written, and at least what was promised."""
    before = model.copy()
    model.rng.choice(["auto", "manual"])  # as the writer chose
    model.rng.random()
    for _ in plan(model, ROUNDS):
        pass
    try:
        traj = stepson.open(path)
    except FormatError as error:
        if promised >= 0:
            raise Lost(str(error)) from error
        return before
    with traj:
        if len(traj) < promised:
            raise Lost(f"{len(traj)} frames instead of {promised}")
        left = _visible(traj, model)
        check(traj, left)
    return left


def _visible(traj: stepson.Trajectory, model: Model) -> Model:
    """The model as the file shows it: so many frames, these checkpoints.

    Which checkpoints of a transaction count depends on moments that only the writer knew,
    so those that the tables name are taken, and each must be one that was made.
    """
    steps = [each["step"] for each in model.points]
    found = []
    for step in traj.checkpoint_steps:
        tokens = [
            p["token"] for p, at in zip(model.points, steps, strict=True) if at == step
        ]
        found.append(tokens)
    if not all(found):
        raise Wrong(f"checkpoints {traj.checkpoint_steps} were never made")
    kept = [i for i, point in enumerate(model.points) if _has(traj, point)]
    return model.cut(State(len(traj), tuple(kept)))


def _has(traj: stepson.Trajectory, point: dict[str, Any]) -> bool:
    """Whether a checkpoint is the one that the file has of its step."""
    try:
        return bool(traj.checkpoint(point["step"])["token"] == point["token"])
    except stepson.SchemaError:
        return False


def shortened(kind: str, seed: int) -> Outcome:
    """The kernel takes less than it is given, at every call: nothing is lost by that."""
    model, limits = setting(seed)
    model.distinct = True
    real, rng = os.writev, np.random.default_rng(seed)

    def short(descriptor: int, parts: Sequence[Buffer]) -> int:
        data = b"".join(parts)
        return real(descriptor, [data[: int(rng.integers(1, len(data) + 1))]])

    with (
        limits.applied(),
        tempfile.TemporaryDirectory() as folder,
        mock.patch("os.writev", short),
    ):
        path = Path(folder) / "md.son"
        for _ in range(2):
            _write(path, model, 4).close()
            with stepson.open(path) as traj:
                check(traj, _visible(traj, model))
                if len(traj) != len(model.steps) or not traj.verify(deep=True).ok:
                    raise Wrong("something is missing")
    return Outcome(opened=True, appended=True)
