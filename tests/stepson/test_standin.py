"""A damaged INDEX, SCALARS, TABLE, COMMIT, FOOTER or METADATA hides no frame."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from stepson.errors import DamagedError, DamageWarning, FormatError, StepsonError
from stepson.index import Column, Entries, IndexRecord
from stepson.records import RecordType
from stepson.scan import read_commit, read_record
from stepson.source import Bytes
from stepson.table import read_table
from stepson.trajectory import Trajectory
from tests.stepson.files import check_content, create, flipped, frame, records

BLOCKS = 13
STEPS = list(range(0, 4 * BLOCKS, 2))
REDUNDANT = {RecordType.INDEX, RecordType.SCALARS, RecordType.TABLE, RecordType.COMMIT}


def build(path: Path, *, seal: bool, blocks_a_commit: int = 1, reopen: int = 0) -> bytes:
    """Blocks of two frames, a checkpoint in every third transaction."""
    writer = create(path, commit="manual", threaded=False)
    for i in range(BLOCKS):
        for step in (4 * i, 4 * i + 2):
            writer.append(step, **frame(step))
        if i % 3 == 1:
            writer.checkpoint({"i": i})
        writer._hand_over_block()
        if i % blocks_a_commit == blocks_a_commit - 1:
            writer.commit()
        if reopen and i % reopen == reopen - 1:
            writer.close()
            writer = stepson.open(path, "a", commit="manual", threaded=False)
    writer.commit()
    writer.close() if seal else writer.abandon()
    return path.read_bytes()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepson.growth.FAN_OUT", 2)


KINDS = {
    "sealed": {"seal": True},
    "unsealed": {"seal": False},
    "large commits": {"seal": True, "blocks_a_commit": 7},
    "reopened": {"seal": False, "reopen": 4},
}


def places(data: bytes, record: Any) -> Iterator[int]:
    """Prefix, map and payload of a record."""
    yield record.offset + 9
    yield record.offset + 33
    if record.prefix.payload_length and record.prefix.type != RecordType.COMMIT:
        yield record.payload + record.prefix.payload_length - 1


def quick_check(data: bytes, steps: list[int], points: list[int]) -> list[FormatError]:
    """All columns and checkpoints are there; returns what was replaced."""
    traj = Trajectory(Bytes(data))
    assert len(traj) == len(steps)
    assert traj.steps[:].tolist() == steps
    assert traj["energy"][:].tolist() == steps
    assert np.array_equal(traj["positions"][:], [frame(s)["positions"] for s in steps[::5]])
    for step in points:
        assert traj.checkpoint(step)["step"] == step
    return traj.opened.damages


def checkpoints(traj: Trajectory) -> list[int]:
    """The steps of all checkpoints that can be found."""
    found, step = [], 0
    while (unit := traj.opened.tree.find(Column.CHECKPOINT_STEP, step)) is not None:
        step = int(unit.row[Column.CHECKPOINT_STEP])
        found.append(step)
    return found


@pytest.mark.filterwarnings("ignore::stepson.DamageWarning")
@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("kind", KINDS)
def test_any_redundant_record_may_be_damaged(tmp_path: Path, kind: str) -> None:
    data = build(tmp_path / "md.son", **KINDS[kind])  # type: ignore[arg-type]
    commit = Trajectory(Bytes(data)).opened.tail.commit
    levels = [r.map["level"] for r in records(data) if r.prefix.type == RecordType.INDEX]
    assert max(levels) >= 1
    found = [r for r in records(data) if r.prefix.type in REDUNDANT]
    points = checkpoints(Trajectory(Bytes(data)))
    told = 0
    for record in found:
        for place in places(data, record):
            last = kind in ("unsealed", "reopened") and record.offset >= commit.start
            kept = STEPS
            if last:  # the last transaction of an open file is torn, not damaged
                before = read_commit(Bytes(data), commit.previous, commit.uuid)
                kept = STEPS[: before.frames]
            damages = quick_check(
                flipped(data, place), kept, [p for p in points if p <= kept[-1]]
            )
            told += bool(damages) and not last
    assert told > 3


@pytest.mark.filterwarnings("ignore::stepson.DamageWarning")
@pytest.mark.usefixtures("narrow")
def test_going_on_after_damage(tmp_path: Path) -> None:
    """What is written behind a damaged INDEX or TABLE is found as well."""
    data = build(tmp_path / "md.son", seal=True)
    tail = [r for r in records(data) if r.prefix.type in REDUNDANT][-8:]
    more = [*STEPS, *range(100, 130, 2)]
    for record in tail:
        path = tmp_path / f"{record.offset}.son"
        path.write_bytes(flipped(data, record.offset + 33))
        with stepson.open(path, "a", commit="manual", threaded=False) as out:
            for step in more[len(STEPS) :]:
                out.append(step, **frame(step))
                out.commit()
        check_content(stepson.open(path), more)


@pytest.mark.usefixtures("narrow")
def test_entries_name_their_commits_after_reopening(tmp_path: Path) -> None:
    data = build(tmp_path / "md.son", seal=True, reopen=2)
    traj = Trajectory(Bytes(data))
    offsets = [r.offset for r in records(data) if r.prefix.type == RecordType.COMMIT]
    for level, each in enumerate(traj.opened.tree.roots):
        for row in each.rows:
            behind = next(c for c in offsets if c > row[Column.RECORD])
            assert row[Column.COMMIT] in (0, behind), level
    for i in range(len(STEPS)):
        unit = traj.opened.tree.find(Column.FRAMES, i)
        assert unit is not None
        behind = next(c for c in offsets if c > unit.offset)
        assert unit.row[Column.COMMIT] in (0, behind)


def test_what_was_replaced_is_told(tmp_path: Path) -> None:
    data = build(tmp_path / "md.son", seal=True)
    *_, table, commit, _footer = records(data)
    for record, words in ((table, "TABLE before it"), (commit, "COMMIT before it")):
        with pytest.warns(DamageWarning, match=words):
            traj = Trajectory(Bytes(flipped(data, record.offset + 40)))
        assert traj.opened.damages
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_content(traj, STEPS)


@pytest.mark.filterwarnings("ignore::stepson.DamageWarning")
@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_is_what_was_there(tmp_path: Path, kind: str) -> None:
    """Every TABLE and every INDEX, rebuilt from the others, equals the stored one."""
    data = build(tmp_path / "md.son", **KINDS[kind])  # type: ignore[arg-type]
    opened = Trajectory(Bytes(data)).opened
    instead, error = opened.instead, FormatError("damaged")
    commits = [r.offset for r in records(data) if r.prefix.type == RecordType.COMMIT]
    for offset in commits[1:]:
        commit = read_commit(Bytes(data), offset, opened.header.uuid)
        table = read_table(Bytes(data), commit, opened.schema)
        again = instead._rebuilt(commit, error)
        assert again.checkpoints == table.checkpoints
        assert again.totals == table.totals
        assert_same(again.entries, table.entries, commit.offset)
        roots = instead.roots(commit)
        if commit.index:
            rebuilt = instead._roots_without(commit.index, 0)
            rows = [row for each in reversed(roots) for row in each.rows]
            found = [row for each in reversed(rebuilt) for row in each.rows]
            assert np.array_equal(found[-1][Column.END :], rows[-1][Column.END :])
            for level, each in enumerate(roots):
                for row in each.rows:
                    place = int(row[Column.RECORD])
                    record = read_record(Bytes(data), place)
                    index = IndexRecord.from_map(record.map, 2, place)
                    copy = instead.entries(place, level, row, error)
                    behind = instead.commit_behind(place).offset
                    assert_same(copy, index.entries, behind)


def assert_same(one: Entries, other: Entries, commit: int) -> None:
    """Equal, where 0 stands for the COMMIT behind."""
    rows: list[Any] = []
    for each in (one, other):
        named = each.rows.copy()
        named[named[:, Column.COMMIT] == 0, Column.COMMIT] = commit
        rows.append(named)
    assert np.array_equal(rows[0], rows[1])


def test_damaged_metadata_hides_no_column(tmp_path: Path) -> None:
    data = build(tmp_path / "md.son", seal=True)
    record = next(r for r in records(data) if r.prefix.type == RecordType.METADATA)
    for place in places(data, record):
        traj = Trajectory(Bytes(flipped(data, place)))
        assert traj["energy"][:].tolist() == STEPS
        with pytest.raises(StepsonError):
            dict(traj.metadata.items())


def test_a_damaged_checkpoint_names_one_that_is_sound(tmp_path: Path) -> None:
    data = build(tmp_path / "md.son", seal=True)
    points = [r for r in records(data) if r.prefix.type == RecordType.CHECKPOINT]
    bad = flipped(flipped(data, points[-1].offset + 40), points[-2].offset + 9)
    traj = Trajectory(Bytes(bad))
    with pytest.raises(stepson.DamagedError, match=r"checkpoint\(18\)") as caught:
        traj.checkpoint()
    assert caught.value.offset == points[-1].offset
    assert traj.checkpoint(18)["i"] == 4


@pytest.mark.parametrize("threaded", [False, True])
def test_a_block_damaged_meanwhile_does_not_stop_the_writer(
    tmp_path: Path, threaded: bool
) -> None:
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=threaded)
    for step in range(0, 40, 2):
        writer.append(step, **frame(step))
        if step % 10 == 8:
            writer.commit()
    block = next(r for r in records(path.read_bytes()) if r.prefix.type == RecordType.BLOCK)
    place = block.payload + block.map["chunks"][0]["offset"]
    path.write_bytes(flipped(path.read_bytes(), place))
    with pytest.warns(DamageWarning, match="its small fields are not copied"):
        writer.close()
    with stepson.open(path) as traj:
        assert traj.sealed
        (damage,) = traj.verify(deep=True).damages
        assert damage.offset == place
        assert traj["positions"][:].shape[0] == traj["positions"].shape[0]
        good = traj["energy"][len(traj["energy"]) // 2 :]
        assert np.isfinite(good).all()
        with pytest.raises(DamagedError):
            traj["energy"][0]
