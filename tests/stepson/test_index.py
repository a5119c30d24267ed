"""Finding things through TABLE and INDEX, against a plain list; how many reads it takes."""

from pathlib import Path

import numpy as np
import pytest

import stepson
from stepson import DamagedError, FormatError
from stepson.index import Column, Entries, IndexRecord, ends_with
from stepson.records import RecordType
from stepson.trajectory import Trajectory
from tests.stepson.files import Counting, check_content, create, flipped, frame, records

FAN_OUTS = [2, 3, 5]


def many_commits(
    path: Path, commits: int, *, seal: bool = True, reopen: int = 0
) -> list[int]:
    """Frames two by two, every third commit with a checkpoint; returns the steps."""
    writer = create(path, commit="manual", threaded=False)
    for i in range(commits):
        for step in (4 * i, 4 * i + 2):
            writer.append(step, **frame(step))
        if i % 3 == 0:
            writer.checkpoint({"i": i})
        writer.commit()
        if reopen and i % reopen == reopen - 1:
            writer.close()
            writer = stepson.open(path, "a", commit="manual", threaded=False)
    if seal:
        writer.close()
    else:
        writer.abandon()
    return list(range(0, 4 * commits, 2))


@pytest.mark.parametrize("fan_out", FAN_OUTS)
@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize("commits", [1, 2, 3, 7, 28, 41])
def test_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fan_out: int, seal: bool, commits: int
) -> None:
    monkeypatch.setattr("stepson.growth.FAN_OUT", fan_out)
    path = tmp_path / "md.son"
    steps = many_commits(path, commits, seal=seal)
    traj = stepson.open(path)
    check_content(traj, steps)
    assert all(frame.step == step for frame, step in zip(traj, steps, strict=True))
    for i in range(0, commits, 3):
        assert traj.checkpoint(4 * i + 2)["i"] == i
    assert traj.verify(deep=True).ok
    assert len(traj.opened.table.entries) <= fan_out
    assert all(len(each) < fan_out for each in traj.opened.tree.roots)


def test_many_reopenings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepson.growth.FAN_OUT", 3)
    steps = many_commits(tmp_path / "md.son", 30, reopen=2)
    traj = stepson.open(tmp_path / "md.son")
    check_content(traj, steps)
    assert traj.verify(deep=True).ok


def test_scalars_after_so_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepson.growth.SCALARS_RAW", 200)
    steps = many_commits(tmp_path / "md.son", 20)
    traj = stepson.open(tmp_path / "md.son")
    check_content(traj, steps)
    kinds = [r.prefix.type for r in records((tmp_path / "md.son").read_bytes())]
    assert kinds.count(RecordType.SCALARS) == kinds.count(RecordType.INDEX) > 3


def test_no_scalars_without_per_atom_fields(tmp_path: Path) -> None:
    field = stepson.Field("energy", "float64", (), "eV")
    with create(tmp_path / "md.son", fields=[field]) as writer:
        writer.append(0, energy=1.0)
    kinds = [r.prefix.type for r in records((tmp_path / "md.son").read_bytes())]
    assert RecordType.SCALARS not in kinds
    assert RecordType.INDEX in kinds


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two INDEXes at the real fan-out, and some entries more."""
    path = tmp_path_factory.mktemp("large") / "md.son"
    many_commits(path, 600)
    return path.read_bytes()


def test_records_are_where_the_design_says(large: bytes) -> None:
    kinds = [RecordType(r.prefix.type).name for r in records(large)]
    assert kinds[:4] == ["HEADER", "SCHEMA", "METADATA", "COMMIT"]
    assert kinds[-5:] == ["SCALARS", "INDEX", "TABLE", "COMMIT", "FOOTER"]
    assert kinds.count("INDEX") == 3
    for i, kind in enumerate(kinds[4:-1], 4):
        if kind == "COMMIT":
            assert kinds[i - 1] == "TABLE"
    assert all(r.prefix.map_length < 2**16 for r in records(large))
    assert [r.prefix.sequence for r in records(large)] == list(range(len(kinds)))


def test_there_is_one_entry_for_each_block(large: bytes) -> None:
    found = list(records(large))
    blocks = [r.offset for r in found if r.prefix.type == RecordType.BLOCK]
    commits = [r.offset for r in found if r.prefix.type == RecordType.COMMIT]
    rows = []
    for record in found:
        if record.prefix.type == RecordType.INDEX:
            rows += [*IndexRecord.from_map(record.map, 2, 0).entries.rows]
    assert [row[Column.RECORD] for row in rows] == blocks
    assert [row[Column.COMMIT] for row in rows] == commits[1:-1]


def test_few_reads(large: bytes) -> None:
    source = Counting(large)
    traj = Trajectory(source)
    assert len(source.reads) <= 2
    assert source.total < 2**18
    for number in (0, 300, 700, 1199):
        fresh = Trajectory(source)
        source.reads.clear()
        assert fresh.at_step(2 * number).energy == 2.0 * number
        assert len(source.reads) <= 5
    source.reads.clear()
    assert sum(len(batch["heat_flux"]) for batch in traj.stream("heat_flux")) == 1200
    assert len(source.reads) <= 10


def test_few_reads_after_a_kill(large: bytes) -> None:
    *_, commit, _ = records(large)
    source = Counting(large[: commit.end - 1])
    assert Trajectory(source).torn_bytes > 0
    assert len(source.reads) <= 4
    assert source.total < 2**20


def test_restart_reads_the_tail_and_one_record(large: bytes) -> None:
    source = Counting(large)
    traj = Trajectory(source)
    source.reads.clear()
    assert traj.checkpoint()["i"] == 597
    assert len(source.reads) <= 2


def test_streaming_small_fields_never_reads_positions(large: bytes) -> None:
    """Positions may be damaged everywhere: who does not ask for them does not notice."""
    data = large
    for record in records(large):
        if record.prefix.type == RecordType.BLOCK:
            data = flipped(data, record.payload + record.prefix.payload_length - 1)
    traj = Trajectory(Counting(data))
    assert sum(len(batch["energy"]) for batch in traj.stream("energy", "heat_flux")) == 1200
    assert np.array_equal(traj["energy"][:], 2.0 * np.arange(1200))
    with pytest.raises(DamagedError) as caught:
        traj["positions"][:]
    assert caught.value.field == "positions"
    assert caught.value.steps is not None


def test_entries_round_trip() -> None:
    rows = np.cumsum(np.random.default_rng(0).integers(0, 9, (20, 10)), axis=0)
    rows[:, Column.FIRST] = 0
    entries = Entries(rows)
    again = Entries.from_map(entries.to_map(), 2, 0)
    assert np.array_equal(again.rows, rows)
    assert Entries.from_map(Entries.of([], 2).to_map(), 2, 0).rows.shape == (0, 10)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": [5, -1]},
        {"frames": [5]},
        {"frames": [5, 1.5]},
        {"frames": [5, 2**63]},
        {"record": [-5, 1]},
        {"first": [9, 0]},
        {"samples": [[0, 0]]},
        {"samples": None},
        {"commit": [[1], [2]]},
    ],
)
def test_hostile_entries(change: dict[str, object]) -> None:
    stored = Entries.of([np.arange(10) for _ in range(2)], 2).to_map()
    assert len(Entries.from_map(stored, 2, 0)) == 2
    with pytest.raises(FormatError):
        Entries.from_map({**stored, **change}, 2, 0)


@pytest.mark.parametrize("column", range(Column.SAMPLES + 2))
def test_an_indexends_with_the_totals_of_the_entry_above_it(column: int) -> None:
    """All that is searched for: an INDEX that ends earlier would be searched in vain."""
    rows = np.arange(30).reshape(3, 10)
    above = rows[-1].copy()
    assert ends_with(Entries(rows), above)
    above[column] += 1
    own = (Column.RECORD, Column.COMMIT, Column.SCALARS, Column.FIRST)
    assert ends_with(Entries(rows), above) == (column in own)


@pytest.mark.filterwarnings("ignore::stepson.DamageWarning")
def test_a_damaged_index_or_scalars_loses_nothing(large: bytes) -> None:
    for record in list(records(large)):
        if record.prefix.type in (RecordType.INDEX, RecordType.SCALARS):
            for place in (record.offset + 40, record.end - 65):
                traj = Trajectory(Counting(flipped(large, place)))
                assert np.array_equal(traj["energy"][:], 2.0 * np.arange(1200))
                assert sum(len(b["heat_flux"]) for b in traj.stream("heat_flux")) == 1200
                assert traj["positions"].steps[:].tolist() == list(range(0, 2400, 10))
                assert traj.checkpoint(14)["i"] == 3
                assert not traj.verify().ok


def test_using_a_copy_is_told(large: bytes) -> None:
    index, scalars = (
        next(r for r in records(large) if r.prefix.type == kind)
        for kind in (RecordType.INDEX, RecordType.SCALARS)
    )
    traj = Trajectory(Counting(flipped(large, index.offset + 40)))
    with pytest.warns(stepson.DamageWarning, match="its copy in a TABLE is used instead"):
        assert traj[0].energy == 0.0
    traj = Trajectory(Counting(flipped(large, scalars.payload)))
    with pytest.warns(stepson.DamageWarning, match="the blocks are read instead"):
        assert len(traj["energy"][:]) == 1200
