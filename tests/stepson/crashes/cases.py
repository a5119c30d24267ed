"""The cases in memory: one fault, injected into one state of one file, fully checked.

A case is a kind and a seed, and nothing else: the seed decides schema, frames, limits,
fault and what happens afterwards. After the fault the image is opened and compared, then
appended to, killed again, appended to and closed, and compared again.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stepson.errors import WriterError
from stepson.writer import Writer
from stepson.writing import resume
from tests.stepson.crashes.disk import Disk
from tests.stepson.crashes.life import (
    NOWHERE,
    act,
    assert_sound,
    born,
    go_on,
    interrupted,
    options,
    plan,
    stays_dead,
    survivors,
)
from tests.stepson.crashes.model import (
    REAL,
    Limits,
    Model,
    random_limits,
    random_schema,
)

__all__ = ["Outcome", "Recorded", "cut", "failing", "recorded"]

CUTS = 600
"""Cases of a file: the last 400 bytes one by one, and places anywhere."""
LAST = 400


class Outcome(NamedTuple):
    """What became of a case."""

    opened: bool
    """The image showed a file."""
    appended: bool
    """It was gone on with, and closed."""


def setting(seed: int) -> tuple[Model, Limits]:
    """Schema and limits of a case."""
    rng = np.random.default_rng(seed)
    limits = random_limits(rng)
    return Model(rng, random_schema(rng)), limits


def length(model: Model, limits: Limits) -> int:
    """How much happens before the fault: now and then, hundreds of commits."""
    rng = model.rng
    if limits is REAL and rng.random() < 0.03:
        return 400
    return int(rng.choice([0, 1, 3, 10, 40], p=[0.1, 0.2, 0.4, 0.2, 0.1]))


def failing(kind: str, seed: int, lives: int = 1) -> Outcome:
    """Write; the disk fails at some call; see what is left; go on.

    Args:
        kind: of the fault, see `Disk.arm`.
        seed: of the case.
        lives: how often the file is then opened for append and killed again.
    """
    model, limits = setting(seed)
    with limits.applied():
        disk = Disk(model.rng)
        interrupted(disk, lambda: _written(disk, model, limits, kind))
        assert disk.failed, "the fault was not met"
        in_cache = kind == "kill" or (kind != "power" and model.rng.random() < 0.5)
        image = bytes(disk.cache) if in_cache else disk.lost()
        left = survivors(image, disk, model)
        if left is None:
            return Outcome(opened=False, appended=False)
        go_on(image, left, kills=lives, stale=bytes(disk.cache))
    return Outcome(opened=True, appended=True)


def _written(disk: Disk, model: Model, limits: Limits, kind: str) -> None:
    """A life that meets the fault: while it begins, works, seals or goes on."""
    rng, before = model.rng, length(model, limits)
    calls = int(rng.choice([1, 2, 3, 5, 8, 13, 21]))
    if before == 0:
        disk.arm(calls, kind)
    writer = born(disk, model, **options(rng))
    act(writer, plan(model, before))
    if rng.random() < 0.3:
        writer = _reopened(writer, disk, model)
    if before:
        disk.arm(calls, kind)
    try:
        if rng.random() < 0.3:
            writer = _reopened(writer, disk, model)
        while not disk.failed:
            act(writer, plan(model, 1))
    except WriterError:
        stays_dead(writer)
        raise


def _reopened(writer: Writer, disk: Disk, model: Model) -> Writer:
    writer.close()
    return resume(disk, NOWHERE, **options(model.rng))


class Recorded(NamedTuple):
    """A file that was written without any fault, and its books."""

    image: bytes
    model: Model
    limits: Limits
    disk: Disk
    ends: list[int]
    """Where the transaction of each state ends."""
    sealed: bool


@lru_cache(maxsize=4)
def recorded(seed: int) -> Recorded:
    """A file with about twelve commits; every other one is sealed."""
    model, limits = setting(seed)
    ends: list[int] = []
    with limits.applied():
        disk = Disk(model.rng)

        def book() -> None:
            if disk.synced == len(disk.cache) and len(ends) < len(disk.states):
                ends.append(disk.synced)

        disk.watch = book
        writer = born(disk, model, **options(model.rng))
        for _ in range(int(model.rng.integers(1, 4))):
            act(writer, plan(model, int(model.rng.integers(2, 7))))
            if model.rng.random() < 0.3:
                writer = _reopened(writer, disk, model)
        sealed = seed % 2 == 0
        if sealed:
            writer.close()
            assert_sound(bytes(disk.cache), model.cut(disk.states[-1]))
        disk.watch = lambda: None
    image = bytes(disk.cache) if sealed else bytes(disk.cache[: disk.synced])
    return Recorded(image, model, limits, disk, ends, sealed)


def cut(kind: str, seed: int) -> Outcome:
    """Cut a file: every byte of its last blocks, and anywhere."""
    file, number = recorded(seed // CUTS), seed % CUTS
    rng = np.random.default_rng(seed)
    size = len(file.image)
    place = size - 1 - number if number < min(LAST, size) else int(rng.integers(size))
    done = sum(end <= place for end in file.ends)
    books = Disk(rng, b"")
    books.states = file.disk.states[:done]
    books.promised = done - 1
    model = file.model.copy()
    model.rng = rng
    with file.limits.applied():
        left = survivors(file.image[:place], books, model)
        if left is None:
            return Outcome(opened=False, appended=False)
        go_on(file.image[:place], left)
    return Outcome(opened=True, appended=True)
