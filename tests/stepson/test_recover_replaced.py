"""`stepson.recover` where sound records stand in the wrong place, or are of another file.

Each record verifies, so only what names it tells that it does not belong there.
"""

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from stepson.errors import FormatError
from stepson.records import RecordType
from stepson.recovery.account import settle
from stepson.recovery.inventory import Claim, Inventory
from stepson.recovery.items import Item
from stepson.recovery.recover import Recovery, recover
from stepson.recovery.salvage import Filler
from stepson.resync import pieces
from stepson.scan import Record
from stepson.schema import Schema
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from tests.stepson.files import Field, create, flipped, records

pytestmark = pytest.mark.filterwarnings("ignore::stepson.DamageWarning")

FIELDS = (
    Field("positions", "float32", ("atom", 3), "Å", codec="raw"),
    Field("energy", "float64", (), "eV", codec="raw"),
)
ATOMS = 10
STEPS = 40


def write_run(
    path: Path, extra: float = 0.0, *, atoms: int = ATOMS, first: int = 0
) -> bytes:
    """Two frames a transaction; the value of everything is its step and `extra`."""
    with create(path, fields=FIELDS, n_atoms=atoms, commit="manual") as out:
        for step in range(first, first + STEPS):
            value = np.full((atoms, 3), step + extra)
            out.append(step, positions=value, energy=step + extra)
            if step % 2:
                out.commit()
    return path.read_bytes()


@pytest.fixture
def own(tmp_path: Path) -> bytes:
    return write_run(tmp_path / "own.son")


@pytest.fixture
def replica(tmp_path: Path) -> bytes:
    return write_run(tmp_path / "replica.son", 0.5)


def of_type(data: bytes, kind: RecordType) -> list[Record]:
    return [each for each in records(data) if each.prefix.type == kind]


def spans(data: bytes) -> list[tuple[int, int]]:
    """Where each transaction starts and ends, the first one left out."""
    return list(pairwise(each.end for each in of_type(data, RecordType.COMMIT)))


def saved(folder: Path, data: bytes, *, torn: bool = False) -> tuple[Recovery, set[int]]:
    """What a recovery says, and the steps it saved; every value must be that of `own`."""
    old, new = folder / "old.son", folder / "new.son"
    old.write_bytes(data)
    new.unlink(missing_ok=True)
    done = recover(old, new, torn=torn)
    traj = stepson.open(new)
    assert traj.verify(deep=True).ok
    for name in traj.fields:
        steps, values = traj[name].steps[:], traj[name][:]
        same = values.reshape(len(steps), -1) == steps[:, None]
        assert same.all(), f"{name}: wrong values at {steps[~same.all(axis=1)]}"
    assert traj.metadata["recovered"]["complete"] == done.complete
    return done, set(traj["positions"].steps[:].tolist())


def told(done: Recovery) -> set[int]:
    return {s for a, b in done.lost["positions"] for s in range(a, b + 1)}


def swapped(data: bytes, a: tuple[int, int], b: tuple[int, int]) -> bytes:
    return (
        data[: a[0]]
        + data[b[0] : b[1]]
        + data[a[1] : b[0]]
        + data[a[0] : a[1]]
        + data[b[1] :]
    )


def test_a_block_of_a_replica(own: bytes, replica: bytes, tmp_path: Path) -> None:
    """At the same offset, with the same number, steps and sizes: only COMMIT knows."""
    block = of_type(own, RecordType.BLOCK)[9]
    data = own[: block.offset] + replica[block.offset : block.end] + own[block.end :]
    done, steps = saved(tmp_path, data)
    assert told(done) == {18, 19} == set(range(STEPS)) - steps
    assert not done.complete


def test_transactions_of_a_replica(own: bytes, replica: bytes, tmp_path: Path) -> None:
    """They have their COMMITs with them; the chain breaks around them."""
    places = spans(own)
    assert places == spans(replica)
    for first, last in ((9, 9), (9, 11), (3, 14)):
        start, end = places[first][0], places[last][1]
        for cut in (0, 256, 300):  # the last COMMIT among them, and part of what it follows
            stop = end - cut
            done, steps = saved(tmp_path, own[:start] + replica[start:stop] + own[stop:])
            gone = set(range(2 * first, 2 * last + 2))
            assert told(done) == gone == set(range(STEPS)) - steps


@pytest.mark.parametrize("seen", range(2, 16))
def test_the_block_in_front_of_a_replica(
    seen: int, own: bytes, replica: bytes, tmp_path: Path
) -> None:
    """It was written over from within a TABLE on; what stands in front of that is sound.

    The first COMMIT of the other file that is whole says that its transaction started in
    front of the block of this one. But its number is lower, and numbers ascend.
    """
    table = of_type(own, RecordType.TABLE)[16]
    commit = of_type(replica, RecordType.COMMIT)[seen]
    part = replica[commit.offset - 64 : commit.offset + 3000]
    place = table.offset + 64
    data = own[:place] + part + own[place + len(part) :]
    done, steps = saved(tmp_path, data)
    hit = {
        step
        for block in of_type(own, RecordType.BLOCK)
        if block.end > place and block.offset < place + len(part)
        for step in range(block.map["first"], block.map["end"])
    }
    assert 32 not in hit
    assert told(done) == hit == set(range(STEPS)) - steps
    assert any(
        "another file" in each.what and each.offset == place + 64 for each in done.damages
    )


@pytest.mark.parametrize("seen", range(2, 16))
def test_the_last_block_of_another_run(seen: int, own: bytes, tmp_path: Path) -> None:
    """What was written over ends within a transaction: its COMMIT is of this file.

    Nothing but a hole stands between the two, and too many numbers for it.
    """
    other = write_run(tmp_path / "other.son", 0.5, first=100)
    block = of_type(own, RecordType.BLOCK)[18]
    commit = of_type(other, RecordType.COMMIT)[seen]
    part = other[commit.offset : commit.offset + block.end - block.offset + 256 + 100]
    place = block.offset - 256 + 64  # so no TABLE of this file names what stands here
    done, steps = saved(tmp_path, own[:place] + part + own[place + len(part) :])
    assert told(done) == {36, 37} == set(range(STEPS)) - steps


@pytest.mark.parametrize("back", [1, 2, 3])
def test_a_copy_of_a_commit_over_a_later_one(back: int, own: bytes, tmp_path: Path) -> None:
    """The COMMIT that was copied is still in its own place: no bytes were added."""
    commits = of_type(own, RecordType.COMMIT)
    copied, hit = commits[12 - back], commits[12]
    place = hit.offset + 192
    part = own[copied.offset : copied.offset + 512]
    data = own[:place] + part + own[place + len(part) :]
    done, steps = saved(tmp_path, data)
    assert told(done) == {24, 25} == set(range(STEPS)) - steps
    assert not any("added" in each.what or "missing" in each.what for each in done.damages)


def test_a_replica_behind_the_end(own: bytes, replica: bytes, tmp_path: Path) -> None:
    """What an earlier life of the disk left there is not taken even if asked for."""
    end = spans(own)[14][1]
    for start, stop in ((15, 17), (16, 17)):
        more = replica[spans(own)[start][0] : spans(own)[stop][1]]
        for gap in (0, -end % 4096):
            done, steps = saved(tmp_path, own[:end] + bytes(gap) + more, torn=True)
            assert steps == set(range(30))
            assert done.torn_bytes == gap + len(more)


def test_a_block_with_other_atoms(own: bytes, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other.son", atoms=4)
    mine = of_type(own, RecordType.BLOCK)[9]
    block = of_type(other, RecordType.BLOCK)[9]
    record = other[block.offset : block.end]
    data = own[: mine.offset] + record + own[mine.offset + len(record) :]
    done, steps = saved(tmp_path, data)
    assert told(done) == {18, 19} == set(range(STEPS)) - steps


@pytest.mark.parametrize("kind", [RecordType.BLOCK, RecordType.COMMIT])
@pytest.mark.parametrize("second", [10, 15])
def test_swapped_records(kind: RecordType, second: int, own: bytes, tmp_path: Path) -> None:
    """Nothing of them is damaged, so nothing is lost."""
    a, b = (of_type(own, kind)[n] for n in (9, second))
    data = swapped(own, (a.offset, a.end), (b.offset, b.end))
    done, steps = saved(tmp_path, data)
    assert steps == set(range(STEPS))
    assert done.complete
    assert len(done.damages) == 2


@pytest.mark.parametrize(("there", "here"), [(19, 9), (9, 19), (9, 10), (10, 9)])
def test_a_misdirected_block(there: int, here: int, own: bytes, tmp_path: Path) -> None:
    """Only what it overwrote is lost."""
    a, b = (of_type(own, RecordType.BLOCK)[n] for n in (there, here))
    data = own[: b.offset] + own[a.offset : a.end] + own[b.offset + a.end - a.offset :]
    done, steps = saved(tmp_path, data)
    assert told(done) == {2 * here, 2 * here + 1} == set(range(STEPS)) - steps


def test_transactions_in_the_wrong_place(own: bytes, tmp_path: Path) -> None:
    places = spans(own)
    done, steps = saved(tmp_path, swapped(own, places[5], places[15]))
    assert told(done) == set(range(STEPS)) - steps <= {10, 11, 30, 31}
    (start, end), over = places[5], places[15][0]
    data = own[:over] + own[start:end] + own[over + end - start :]
    done, steps = saved(tmp_path, data)
    assert told(done) == {30, 31} == set(range(STEPS)) - steps
    done, steps = saved(tmp_path, own[:over] + own[start:end] + own[over:])
    assert steps == set(range(STEPS))


def test_old_values_never_come_back(tmp_path: Path) -> None:
    """A run was killed and repeated; then blocks, TABLEs and COMMITs of it are damaged."""
    path = tmp_path / "made.son"
    with create(path, fields=FIELDS, n_atoms=ATOMS, commit="manual") as out:
        for step in range(12):
            _append(out, step, 0.0)
            if step % 4 == 3:
                out.commit()
    sound = path.stat().st_size
    with stepson.open(path, "a", commit="manual") as out:
        for step in range(12, 20):
            _append(out, step, 0.5)
        out.commit()
        committed = path.stat().st_size
    path.write_bytes(path.read_bytes()[: committed - 100])  # within COMMIT
    with stepson.open(path, "a", commit="manual") as out:
        for step in range(12, 30):
            _append(out, step, 0.0)
            if step % 4 == 3:
                out.commit()
    data = path.read_bytes()
    start = of_type(data[:sound], RecordType.COMMIT)[-1].end
    whole = pieces(Bytes(data), start, len(data), careful=True)
    near = [each for each in whole if isinstance(each, Record)]
    near = [each for each in near if each.prefix.type in (4, 5, 6)]
    for some in combinations(near[:9], 3):
        bad = data
        for record in some:
            bad = flipped(bad, record.offset + 20)
        try:
            done, steps = saved(tmp_path, bad)
        except FormatError:
            continue
        assert set(range(30)) - steps <= told(done) or done.torn_bytes


def _append(out: stepson.Writer, step: int, extra: float) -> None:
    value = np.full((ATOMS, 3), step + extra)
    out.append(step, positions=value, energy=step + extra)


def test_frames_that_nothing_tells_of(own: bytes) -> None:
    """What a COMMIT counts and nobody names is told all the same."""
    traj = Trajectory(Bytes(own))
    schema: Schema = traj.schema
    source = Bytes(own)
    found = Inventory(schema, Filler(source, schema))
    found.items = [
        Item(100, "block", 0, 10, frames=10),
        Item(200, "block", 10, 20, frames=7),
        Item(300, "block", 30, 40, frames=10),
    ]
    found.claims = [Claim(0, 10, 10, 100), Claim(10, 20, 10, 200), Claim(20, 40, 20, 300)]
    settle(found)
    assert found.unaccounted == 3
    assert [(i.first, i.end) for i in found.items if i.kind == "lost"] == [(20, 30)]
    assert any("3 frames" in str(each) for each in found.damages)


OTHERS: dict[str, tuple[int, list[tuple[Any, ...]]]] = {
    "atoms": (5, [("positions", "float32", ("atom", 6), 1), ("energy", "float64", (), 1)]),
    "dtype": (10, [("positions", "int32", ("atom", 3), 1), ("energy", "int64", (), 1)]),
    "names": (10, [("forces", "float32", ("atom", 3), 1), ("heat", "float64", (), 1)]),
    "every": (10, [("positions", "float32", ("atom", 3), 2), ("energy", "float64", (), 2)]),
    "less": (10, [("positions", "float32", ("atom", 3), 1)]),
    "more": (
        10,
        [
            ("positions", "float32", ("atom", 3), 1),
            ("energy", "float64", (), 1),
            ("x", "float64", (), 1),
        ],
    ),
    "irregular": (
        10,
        [("positions", "float32", ("atom", 3), None), ("energy", "float64", (), None)],
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_fields_are_not_borrowed_from_any_file(
    kind: str, own: bytes, tmp_path: Path
) -> None:
    """Sound bytes read as something else would be wrong numbers."""
    atoms, fields = OTHERS[kind]
    like = tmp_path / "like.son"
    some = [Field(name, dtype, shape, "", every=n) for name, dtype, shape, n in fields]
    create(like, fields=some, n_atoms=atoms).close()
    old = tmp_path / "old.son"
    schema = of_type(own, RecordType.SCHEMA)[0]
    old.write_bytes(flipped(own, schema.offset + 60))
    with pytest.raises(FormatError, match=r"like\.son has other fields"):
        recover(old, tmp_path / "new.son", like=like)
    done = recover(old, tmp_path / "new.son", like=tmp_path / "own.son")
    assert done.complete
