"""What is written is read: any schema, dtype, cadence, number of atoms, reopenings."""

import warnings
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepson
from stepson import Field, SchemaError, WriterError
from stepson.encoder import runs_of
from stepson.schema import DTYPES
from tests.stepson.files import check_content, create, frame

SHAPES: list[tuple[str | int, ...]] = [(), (3,), (2, 2), ("atom",), ("atom", 3)]
CADENCES = st.one_of(
    st.just((None, 0)),
    st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
)


@st.composite
def schemas(draw: st.DrawFn) -> list[Field]:
    """One to four fields of any kind."""
    fields = []
    for i in range(draw(st.integers(1, 4))):
        shape = draw(st.sampled_from(SHAPES))
        every, offset = draw(CADENCES)
        dtype = draw(st.sampled_from(DTYPES))
        fields.append(Field(f"f{i}", dtype, shape, "", every=every, offset=offset))
    return fields


def sample(field: Field, n_atoms: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Any bits of the dtype."""
    shape = field.sample_shape(n_atoms)
    dtype = np.dtype(field.dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(random.bytes(count), dtype).reshape(shape).copy()


def same(a: Any, b: Any) -> bool:
    """Equal bit by bit."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return bool(a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


@settings(max_examples=60, deadline=None)
@given(
    schemas(),
    st.sampled_from([0, 1, 3]),
    st.lists(st.integers(1, 5), min_size=0, max_size=25),
    st.integers(0, 2**32),
    st.data(),
)
def test_everything_comes_back(
    fields: list[Field], n_atoms: int, gaps: list[int], seed: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    expected: dict[str, list[tuple[int, Any]]] = {field.name: [] for field in fields}
    frames: list[int] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "md.son"
        writer = create(path, n_atoms=n_atoms, fields=fields, threaded=False)
        for step in np.cumsum(gaps).tolist():
            values = {
                each.name: sample(each, n_atoms, random)
                for each in fields
                if each.due(step) or (each.every is None and random.random() < 0.5)
            }
            if not values:
                continue
            writer.append(step, **values)
            frames.append(step)
            for name, value in values.items():
                expected[name].append((step, value))
            action = data.draw(st.sampled_from(["", "", "commit", "reopen", "seal"]))
            if action:
                writer.commit()
            if action in ("reopen", "seal"):
                writer.close() if action == "seal" else writer.abandon()
                writer = stepson.open(path, "a", threaded=False)
        writer.close()
        with stepson.open(path) as traj, warnings.catch_warnings():
            warnings.simplefilter("error")
            check(traj, expected, frames)


def check(
    traj: stepson.Trajectory, expected: dict[str, list[tuple[int, Any]]], frames: list[int]
) -> None:
    assert traj.steps[:].tolist() == frames
    assert len(traj) == len(frames)
    for name, samples in expected.items():
        column = traj[name]
        assert column.steps[:].tolist() == [step for step, _ in samples]
        assert column[:].shape == column.shape
        for i, (step, value) in enumerate(samples):
            assert same(column[i], value)
            assert same(column.at_step(step), value)
    for found, step in zip(traj, frames, strict=True):
        assert found.step == step
        for name, samples in expected.items():
            value = dict(samples).get(step)
            assert (found[name] is None) == (value is None)
            assert value is None or same(found[name], value)
    names = list(expected)
    batches = list(traj.stream(*names, frames=4))
    for name, samples in expected.items():
        steps = [step for batch in batches for step in batch.steps[name].tolist()]
        assert steps == [step for step, _ in samples]
        assert all(len(batch[name]) <= 4 for batch in batches)
    for before, after in pairwise(batches):
        last = max(int(s[-1]) for s in before.steps.values() if len(s))
        assert last < min(int(s[0]) for s in after.steps.values() if len(s))
    assert traj.verify(deep=True).ok


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=60),
    st.lists(st.integers(0, 59), max_size=4),
)
def test_extend_equals_append(gaps: list[int], cuts: list[int]) -> None:
    steps = (2 * np.cumsum(gaps)).tolist()
    with TemporaryDirectory() as folder:
        with create(Path(folder) / "a.son", threaded=False) as one:
            for step in steps:
                one.append(step, **frame(step))
        with create(Path(folder) / "b.son", threaded=False) as many:
            for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(steps)], strict=True):
                piece = steps[a:b]
                fields = {
                    name: np.array([frame(s)[name] for s in piece if name in frame(s)])
                    for name in ("energy", "heat_flux", "positions")
                }
                fields["positions"] = fields["positions"].reshape(-1, 3, 3)
                fields["heat_flux"] = fields["heat_flux"].reshape(-1, 3)
                many.extend(piece, **fields)
        for name in ("a.son", "b.son"):
            check_content(stepson.open(Path(folder) / name), steps)


def test_extend_of_many_blocks(tmp_path: Path) -> None:
    """Blocks close where they are full, wherever the calls are cut."""
    field = Field("positions", "float32", ("atom", 3), "Å")
    values = np.random.default_rng(0).normal(size=(1000, 4, 3)).astype("f4")
    with create(tmp_path / "md.son", n_atoms=4, fields=[field]) as writer:
        writer.extend(range(1000), positions=values)
    traj = stepson.open(tmp_path / "md.son")
    assert traj.opened.tail.commit.commits >= 8
    assert np.array_equal(traj["positions"][:], values)
    assert np.array_equal(traj["positions"][950:3:-7, 1:3], values[950:3:-7, 1:3])
    assert np.array_equal(traj["positions"][[5, 900, 5, -1]], values[[5, 900, 5, -1]])
    assert np.array_equal(traj["positions"][..., 0], values[..., 0])
    assert np.array_equal(traj["positions"][7, [0, 2]], values[7, [0, 2]])
    assert np.array_equal(np.asarray(traj["positions"]), values)


def test_tiles(tmp_path: Path) -> None:
    """A large system is cut along its atoms, and few atoms cost few chunks."""
    n = 100_000
    fields = [
        Field("positions", "float32", ("atom", 3), "Å"),
        Field("grid", "float64", (80_000,), ""),
    ]
    values = np.random.default_rng(1).normal(size=(20, n, 3)).astype("f4")
    grid = np.arange(20 * 80_000.0).reshape(20, -1)
    with create(tmp_path / "md.son", n_atoms=n, fields=fields) as writer:
        writer.extend(range(20), positions=values, grid=grid)
    traj = stepson.open(tmp_path / "md.son")
    block = traj.reader.block(traj.reader.unit_of_frame(0))
    tiles = block.chunks[0]
    assert len(tiles) > 4
    assert all(4 * 3 * t.count * (t.stop - t.start) <= 2**22 for t in tiles)
    assert all(t.stop - t.start >= 1024 for t in tiles[:-1])
    assert np.array_equal(traj["positions"][3:9:2, 777:52_000], values[3:9:2, 777:52_000])
    assert np.array_equal(traj["positions"][11], values[11])
    assert np.array_equal(traj["grid"][2:19:3], grid[2:19:3])


def test_steps_without_rule(tmp_path: Path) -> None:
    """More than 256 runs of steps go into a chunk of their own."""
    steps = np.cumsum(np.random.default_rng(2).integers(1, 9, 3000))
    field = Field("energy", "float64", (), "eV")
    with create(tmp_path / "md.son", fields=[field]) as writer:
        writer.extend(steps, energy=steps * 1.0)
    traj = stepson.open(tmp_path / "md.son")
    assert np.array_equal(traj.steps[:], steps)
    assert np.array_equal(traj["energy"][:], steps)
    unit = traj.reader.unit_of_frame(0)
    assert isinstance(traj.reader.block(unit).record.map["runs"][0], int)


@given(st.lists(st.integers(1, 3), max_size=60))
def test_runs(gaps: list[int]) -> None:
    steps = np.cumsum(gaps, dtype=np.int64)
    runs = runs_of(steps)
    found = [first + stride * i for first, stride, count in runs for i in range(count)]
    assert found == steps.tolist()


@pytest.mark.parametrize(
    "values",
    [
        {"energy": 1.0},
        {"energy": 1.0, "heat_flux": np.zeros(3), "positions": np.zeros((3, 3))},
        {"energy": 1.0, "heat_flux": np.zeros(2)},
        {"energy": np.zeros(1), "heat_flux": np.zeros(3)},
        {"energy": 1.0, "heat_flux": 1.0},
        {"energy": 1j, "heat_flux": np.zeros(3)},
        {"energy": "1", "heat_flux": np.zeros(3)},
        {"energy": 1.0, "heat_flux": [[1], [2, 3]]},
        {"energy": 1.0, "heat_flux": np.zeros(3), "nothing": 1},
        {},
    ],
)
def test_a_frame_that_does_not_fit_leaves_no_trace(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    with create(tmp_path / "md.son") as writer:
        writer.append(0, **frame(0))
        with pytest.raises(SchemaError):
            writer.append(2, **values)
        writer.append(4, **frame(4))
    check_content(stepson.open(tmp_path / "md.son"), [0, 4])


def test_integers_are_never_cut(tmp_path: Path) -> None:
    field = Field("n", "uint8", (), "")
    with create(tmp_path / "md.son", fields=[field]) as writer:
        writer.append(0, n=255)
        for bad in (256, -1, 1.5, "x"):
            with pytest.raises(SchemaError):
                writer.append(1, n=bad)
    assert stepson.open(tmp_path / "md.son")["n"][:].tolist() == [255]


def test_order(tmp_path: Path) -> None:
    with create(tmp_path / "md.son") as writer:
        writer.append(10, **frame(10))
        with pytest.raises(WriterError, match="step 10 is not after step 10"):
            writer.append(10, **frame(10))
        with pytest.raises(WriterError):
            writer.extend([12, 12], energy=np.zeros(2), heat_flux=np.zeros((2, 3)))
    with pytest.raises(WriterError, match="is closed"):
        writer.append(12, **frame(12))


def test_manual_commits_are_single_transactions(tmp_path: Path) -> None:
    """Full blocks are written before the commit, and are visible only with it."""
    field = Field("positions", "float32", ("atom", 3), "Å")
    path = tmp_path / "md.son"
    writer = create(path, fields=[field], commit="manual")
    values = np.arange(400 * 9.0).reshape(400, 3, 3).astype("f4")
    writer.extend(range(300), positions=values[:300])
    writer.flush()
    assert len(stepson.open(path)) == 0
    assert stepson.open(path).torn_bytes > 0
    writer.checkpoint({"x": 1})
    writer.commit()
    traj = stepson.open(path)
    assert len(traj) == 300
    assert traj.opened.tail.commit.commits == 2
    assert len(traj.opened.table.entries) == 3
    writer.extend(range(300, 400), positions=values[300:])
    writer.commit(wait=False)
    writer.flush()
    assert np.array_equal(writer.trajectory()["positions"][:], values)
    writer.abandon()
    assert len(stepson.open(path)) == 400


def test_an_exception_keeps_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "md.son"

    def fail() -> None:
        with create(path) as writer:
            writer.append(0, **frame(0))
            writer.commit()
            writer.append(2, **frame(2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    traj = stepson.open(path)
    assert not traj.sealed
    assert traj.torn_bytes == 0
    check_content(traj, [0])


def test_blocks_close_by_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    writer = create(path, commit_seconds=0.0, threaded=False)
    for step in (0, 2, 4):
        writer.append(step, **frame(step))
    assert len(stepson.open(path)) == 2
    assert writer.steps_committed == 2
    assert writer.last_step == 4
    writer.close()


def test_precision(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(size=(200, 5, 3)).astype("f4")
    field = Field("positions", "float32", ("atom", 3), "Å", precision=1e-3)
    with create(tmp_path / "md.son", n_atoms=5, fields=[field]) as writer:
        writer.extend(range(200), positions=values)
    found = stepson.open(tmp_path / "md.son")["positions"][:]
    assert 0 < np.abs(found.astype("f8") - values).max() <= 1e-3


def test_checkpoints_only(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    with create(path, commit="manual") as writer:
        with pytest.raises(SchemaError, match="needs the step"):
            writer.checkpoint({})
        for step in (0, 5, 9):
            writer.checkpoint({"step": step, "v": np.full(3, step)})
            writer.commit()
        with pytest.raises(WriterError, match="in order"):
            writer.checkpoint({"step": 8})
    traj = stepson.open(path)
    assert len(traj) == 0
    assert traj.checkpoint_steps == [5, 9]
    for step in (0, 5, 9):
        assert traj.checkpoint(step)["v"].tolist() == [step] * 3
    with pytest.raises(SchemaError, match="no checkpoint of step 4; the next one is at 5"):
        traj.checkpoint(4)
    with pytest.raises(SchemaError, match="no checkpoint of step 10"):
        traj.checkpoint(10)
    assert [*stepson.open(path)] == []


def test_frames_by_step_and_number(tmp_path: Path) -> None:
    with create(tmp_path / "md.son") as writer:
        for step in range(0, 40, 2):
            writer.append(step, **frame(step))
    traj = stepson.open(tmp_path / "md.son")
    assert traj[-1].step == 38
    assert traj[5].positions is not None
    assert traj[5].time == 40.0
    assert traj.time[5] == 40.0
    assert traj["positions"].time[:].tolist() == [0.0, 40.0, 80.0, 120.0]
    assert traj.at_step(12).positions is None
    assert traj.at_step(12).fields == ("energy", "heat_flux")
    with pytest.raises(SchemaError, match="nothing was recorded at step 13"):
        traj.at_step(13)
    with pytest.raises(SchemaError, match="no sample at step 12"):
        traj["positions"].at_step(12)
    with pytest.raises(SchemaError, match="no field 'forces'"):
        traj["forces"]
    with pytest.raises(AttributeError):
        _ = traj[0].forces
    with pytest.raises(IndexError):
        traj[20]
    found = [b.steps["energy"].tolist() for b in traj.stream("energy", start=5, stop=11)]
    assert found == [[6, 8, 10]]


def test_picture(tmp_path: Path) -> None:
    with create(tmp_path / "md.son") as writer:
        for step in range(0, 40, 2):
            writer.append(step, **frame(step))
    text = str(stepson.open(tmp_path / "md.son"))
    for part in (
        "md.son",
        "Ar3",
        "positions",
        "Å",
        "float32",
        "atom×3",
        "20 frames",
        "sealed",
    ):
        assert part in text
    assert "steps 0 to 38, 152 fs" in text
