"""Lives of a file: what a writer does, and what must be true of what it leaves.

`plan` makes up what happens, `act` does it, `survivors` judges an image: it must show one
of the states that were written, none older than the promised one, and nothing else.
`go_on` is the next life: it appends to what was left, may be killed too, and in the end
closes the file, where everything is compared again.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stepson.errors import FormatError, WriterError
from stepson.opening import Header
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writer import Writer
from stepson.writing import resume, start
from tests.stepson.crashes.disk import Disk, Off
from tests.stepson.crashes.model import Model, Rng, State, same

NOWHERE = Path("memory.son")


class Wrong(AssertionError):
    """Data that were never written, or not in this place."""


class Lost(AssertionError):
    """A promised commit is not there any more."""


class Step(NamedTuple):
    """One call of a writer."""

    name: str
    values: dict[str, Any]


def plan(model: Model, count: int) -> Iterator[Step]:
    """What happens next: frames, checkpoints, notes, commits."""
    rng = model.rng
    for _ in range(count):
        if rng.random() < 0.85:
            yield from _frames(model, int(rng.integers(1, 9)))
        if rng.random() < 0.35 and model.may_point:
            yield Step("checkpoint", {"state": model.point()})
        if rng.random() < 0.15:
            yield Step("note", {"content": {"what": "a note", "n": len(model.steps)}})
        if rng.random() < 0.7:
            yield Step("commit", {})


def _frames(model: Model, count: int) -> Iterator[Step]:
    frames = [model.frame() for _ in range(count)]
    irregular = [each.name for each in model.schema.fields if each.every is None]
    given = [sum(name in values for _, values in frames) for name in irregular]
    if model.rng.random() < 0.5 or any(0 < n < count for n in given):
        for step, values in frames:
            yield Step("append", {"step": step, **values})
        return
    names = {name for _, values in frames for name in values}
    columns = {n: np.stack([v[n] for _, v in frames if n in v]) for n in names}
    yield Step("extend", {"steps": [step for step, _ in frames], **columns})


def act(writer: Writer, steps: Iterable[Step]) -> None:
    """Do it."""
    for each in steps:
        getattr(writer, each.name)(**each.values)


def options(rng: Rng) -> dict[str, Any]:
    """How to write."""
    return {
        "commit": str(rng.choice(["auto", "manual"])),
        "commit_seconds": float(rng.choice([0.0, 1e9])),
        "threaded": False,
    }


def born(disk: Disk, model: Model, **how: Any) -> Writer:
    """A new file on a disk."""
    header = Header(model.rng.bytes(16), "2025-01-01T00:00:00", "test")
    return start(disk, NOWHERE, header, model.schema, model.metadata, **how)


def shown(image: bytes) -> Trajectory:
    """An image, open for reading; any warning is an error."""
    return Trajectory(Bytes(image), NOWHERE)


def check(traj: Trajectory, model: Model) -> None:
    """Everything that is read is what was written."""
    if traj.steps[:].tolist() != model.steps:
        raise Wrong(f"steps {traj.steps[:]} instead of {model.steps}")
    for each in model.schema.fields:
        column = traj[each.name]
        if column.steps[:].tolist() != model.steps_of(each.name):
            raise Wrong(f"steps of {each.name}")
        if not same(column[:], model.expected(each.name)):
            raise Wrong(f"values of {each.name}")
    _check_other_ways(traj, model)
    if not same(dict(traj.metadata), {**model.metadata, **_given(traj)}):
        raise Wrong("metadata")


def _given(traj: Trajectory) -> dict[str, Any]:
    """What a writer may add to the metadata by itself."""
    return {
        key: traj.metadata[key] for key in ("masses", "cell", "pbc") if key in traj.metadata
    }


def _check_other_ways(traj: Trajectory, model: Model) -> None:
    """A frame, a stream, the checkpoints."""
    fields, rng = model.schema.fields, np.random.default_rng(len(model.steps))
    for name in (each.name for each in fields):
        parts = [
            batch[name] for batch in traj.stream(name, frames=int(rng.integers(1, 40)))
        ]
        if parts and not same(np.concatenate(parts), model.expected(name)):
            raise Wrong(f"the stream of {name}")
        if not parts and model.rows[name]:
            raise Wrong(f"no stream of {name}")
    if model.steps:
        number = int(rng.integers(len(model.steps)))
        frame = traj[number]
        for each in fields:
            place = int(np.searchsorted(model.places[each.name], number))
            due = number in model.places[each.name][place : place + 1]
            found = frame[each.name]
            if due != (found is not None) or not (
                found is None or same(np.asarray(found), model.rows[each.name][place])
            ):
                raise Wrong(f"{each.name} of frame {number}")
    steps = [each["step"] for each in model.points]
    if traj.checkpoint_steps != steps[-2:]:
        raise Wrong(f"checkpoints {traj.checkpoint_steps} instead of {steps[-2:]}")
    if model.points and not same(traj.checkpoint(), model.points[-1]):
        raise Wrong("the last checkpoint")
    if model.points:
        number = int(rng.integers(len(steps)))
        newest = max(i for i, step in enumerate(steps) if step == steps[number])
        if steps.count(steps[number]) == 1 and not same(
            traj.checkpoint(steps[number]), model.points[newest]
        ):
            raise Wrong(f"checkpoint {number}")


class Left(NamedTuple):
    """What an image shows."""

    state: State
    model: Model
    """Cut to the state."""


def survivors(
    image: bytes, disk: Disk, model: Model, former: tuple[list[State], Model] | None = None
) -> Left | None:
    """Judge an image after a failure; None where it is no file.

    Args:
        image: what is left.
        disk: the books of the life that ended.
        model: what it wrote.
        former: states and model of the life before. As long as nothing was promised, what
            that one wrote last may come back, if it is whole.

    Raises:
        Lost: something promised is missing. Wrong: something that was not written is there.
    """
    try:
        traj = shown(image)
    except FormatError as error:
        if disk.promised >= 0:
            raise Lost(f"the file cannot be opened: {error}") from error
        return None
    try:
        return judged(traj, disk.states, disk.promised, model)
    except Wrong:
        if former is None or disk.promised > 0:
            raise
        return judged(traj, former[0], 0, former[1])


def judged(traj: Trajectory, states: list[State], promised: int, model: Model) -> Left:
    """A trajectory must show one of these states, from number `promised` on."""
    token = traj.checkpoint()["token"] if traj.checkpoint_steps else None
    fits = [
        token == (model.points[state.points[-1]]["token"] if state.points else None)
        and len(traj) == state.frames
        for state in states
    ]
    if not any(fits):
        raise Wrong(f"{len(traj)} frames, checkpoint {token}: none of {states}")
    if not any(fits[max(promised, 0) :]):
        raise Lost(f"{len(traj)} frames instead of {states[promised]}")
    model = model.cut(states[max(i for i, fit in enumerate(fits) if fit)])
    check(traj, model)
    if traj.torn_bytes != traj.size - traj.opened.tail.valid_until:
        raise Wrong(f"{traj.torn_bytes} torn bytes")
    return Left(model.state, model)


def interrupted(disk: Disk, work: Callable[[], object]) -> None:
    """Do what the disk may fail at: the failure shows itself as it should."""
    try:
        work()
    except Off:
        return
    except WriterError:
        if not disk.failed:
            raise
    if disk.abused:
        raise Wrong("the descriptor was used after it had failed")


def go_on(image: bytes, left: Left, *, kills: int = 1, stale: bytes = b"") -> None:
    """Append, be killed, append again ..., close; nothing is lost on the way.

    Args:
        image: of the file.
        left: what it shows.
        kills: lives that end early.
        stale: what earlier lives had written, by offset.
    """
    rng, former = left.model.rng, None
    for _ in range(kills):
        state, model = left
        disk = Disk(rng, image, state, stale)
        kind = str(rng.choice(["power", "kill"]))
        disk.arm(int(rng.integers(2, 40)), kind)
        interrupted(disk, lambda disk=disk, model=model: _more(disk, model))  # type: ignore[misc]
        image = bytes(disk.cache) if kind == "kill" else disk.lost()
        found = survivors(image, disk, model, former)
        if found is None:
            raise Lost("no file is left")
        left, former = found, ([*disk.states[disk.promised :]], model)
        stale = bytes(disk.cache) + stale[len(disk.cache) :]
    disk = Disk(rng, image, left.state)
    writer = _more(disk, left.model)
    writer.close()
    if not bytes(disk.cache).startswith(image):
        raise Wrong("bytes that were in the file have changed")
    assert_sound(bytes(disk.cache), left.model.cut(disk.states[-1]))


def assert_sound(image: bytes, model: Model) -> None:
    """A closed file holds everything, and every checksum in it is right."""
    sealed = shown(image)
    check(sealed, model)
    result = sealed.verify(deep=True)
    if not (result.ok and sealed.sealed and sealed.torn_bytes == 0):
        raise Wrong(f"not sound in the end: {result}")


def _more(disk: Disk, model: Model) -> Writer:
    """Open for append, and write."""
    writer = resume(disk, NOWHERE, **options(model.rng))
    act(writer, plan(model, int(model.rng.integers(1, 4))))
    return writer


def stays_dead(writer: Writer) -> None:
    """After a failure nothing is committed any more, and that is said each time."""
    for _ in range(2):
        try:
            writer.commit()
        except WriterError:
            continue
        raise Wrong("a commit after a failure")
    with suppress(WriterError):
        writer.close()
