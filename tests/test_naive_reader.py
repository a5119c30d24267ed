"""The naive reader and `stepson` say the same of every file."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepson
from stepson import Field, chunk
from stepson.codecs.linear import fits
from stepson.schema import DTYPES
from tests import naive_reader
from tests.naive_reader import Damaged, Refused
from tests.stepson.files import create, flipped, frame, write

SHAPES: list[tuple[str | int, ...]] = [(), (3,), (2, 2), ("atom",), ("atom", 3)]
FLOATS = ("float16", "float32", "float64")


def same(a: Any, b: Any) -> bool:
    """Equal bit by bit, arrays in trees included."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
    return type(a) is type(b) and (a == b or (a != a and b != b))


def agree(path: Path) -> dict[str, Any] | None:
    """Compare the two readers; what the naive one read, None where both refuse."""
    try:
        naive = naive_reader.read(path)
    except Refused:
        with pytest.raises(stepson.FormatError):
            stepson.open(path)
        return None
    with stepson.open(path) as traj:
        assert traj.sealed == naive["sealed"]
        assert traj.torn_bytes == naive["torn_bytes"]
        assert len(traj) == naive["frames"]
        assert traj.opened.tail.commit.digest == naive["digest"]
        assert traj.opened.header.to_map() == naive["header"]
        for field in traj.schema.fields:
            column = traj[field.name]
            assert np.array_equal(column.steps[:], naive["steps"][field.name])
            assert same(column[:], naive["arrays"][field.name])
        assert same(dict(traj.metadata), naive["metadata"])
        found = naive["checkpoints"]
        assert not found or same(dict(traj.checkpoint()), found[-1][1])
        for step, tree in found:
            if [each for each, _ in found].count(step) == 1:
                assert same(dict(traj.checkpoint(step)), tree)
    assert not naive["unreadable"]
    assert not naive["damage"]
    return naive


def numbers(field: Field, shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """Smooth numbers or any bits."""
    dtype = np.dtype(field.dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f" and random.random() < 0.7:
        return random.normal(size=shape).astype(dtype)
    bits = random.bytes(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(bits, dtype).reshape(shape).copy()


@st.composite
def schemas(draw: st.DrawFn) -> list[Field]:
    """One to four fields of any kind."""
    fields = []
    for i in range(draw(st.integers(1, 4))):
        dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
        every = draw(st.sampled_from([None, 1, 2, 3]))
        offset = draw(st.integers(0, every - 1)) if every else 0
        lossy = dtype in FLOATS and shape[:1] == ("atom",) and draw(st.booleans())
        precision = draw(st.sampled_from([1e-3, 0.5])) if lossy else None
        cadence: Any = {"every": every, "offset": offset}
        fields.append(Field(f"f{i}", dtype, shape, "", precision=precision, **cadence))
    return fields


def run(path: Path, fields: list[Field], draw: st.DataObject) -> list[int]:
    """Write a file with commits, reopenings and kills; its sizes on the way."""
    n_atoms = draw.draw(st.sampled_from([0, 1, 3]))
    random = np.random.default_rng(draw.draw(st.integers(0, 99)))
    quiet: Any = {"threaded": False, "commit": "manual"}
    writer = create(path, n_atoms=n_atoms, fields=fields, **quiet)
    step, sizes = 0, [path.stat().st_size]
    actions = ["frame"] * 6 + ["commit", "checkpoint", "reopen", "seal", "tear"]
    for action in draw.draw(st.lists(st.sampled_from(actions), max_size=25)):
        if action == "frame":
            step += draw.draw(st.integers(1, 4))
            due = [f for f in fields if f.due(step) or f.every is None]
            values = {f.name: numbers(f, f.sample_shape(n_atoms), random) for f in due}
            if values:
                writer.append(step, **values)
            continue
        if action == "checkpoint":
            state = {"x": random.normal(size=3), "deep": [{"text": "å" * 2000}]}
            writer.checkpoint({"step": step, **state})
            if random.random() < 0.3:
                continue  # perhaps another one before the commit
        writer.commit()
        if action in ("reopen", "seal", "tear"):
            writer.close() if action == "seal" else writer.abandon()
            if action == "tear":
                tail = random.bytes(int(random.integers(1, 500)))
                path.write_bytes(path.read_bytes() + tail)
            writer = stepson.open(path, "a", **quiet)
        sizes.append(path.stat().st_size)
    writer.close() if draw.draw(st.booleans()) else writer.abandon()
    return sizes


@settings(max_examples=60, deadline=None)
@given(schemas(), st.data())
def test_both_read_the_same(fields: list[Field], draw: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "md.son"
        sizes = run(path, fields, draw)
        assert agree(path) is not None
        data = path.read_bytes()
        for size in draw.draw(st.lists(st.integers(0, len(data)), max_size=4)):
            path.write_bytes(data[:size])
            assert (agree(path) is not None) == (size >= sizes[0])


@st.composite
def values_of_a_chunk(draw: st.DrawFn) -> Any:
    """Few to many rows of any dtype: noise, motion, any bits, zeros of both signs."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 7)))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    kind = draw(st.sampled_from(["bits", "smooth", "noise", "zeros"]))
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if kind == "bits":
        bits = random.bytes(math.prod(shape) * dtype.itemsize)
        return np.frombuffer(bits, dtype).reshape(shape).copy()
    if kind == "zeros":
        return (random.integers(-1, 2, shape) * -0.0).astype(dtype)
    wave = 50 * np.sin(0.3 * np.arange(shape[0])[:, None] + np.arange(shape[1]))
    return (wave if kind == "smooth" else wave * random.normal(size=shape)).astype(dtype)


def plain(values: Any, codec: str, params: Any, precision: float | None = None) -> None:
    """Encode with the library, decode both ways."""
    options = {"coder": "zstd", "filter": "bitshuffle", "level": 1, **params}
    plan = chunk.Plan(codec, options)
    with np.errstate(all="ignore"):
        made = chunk.encode(values, plan, precision=precision)
    kind, shape = values.dtype, values.shape
    decode = naive_reader.CODECS[made.info["codec"]]
    found = decode(made.data, kind, shape, made.info["params"]).reshape(shape)
    assert same(found, chunk.decode(made.data, made.info, dtype=kind, shape=shape))
    if precision is None:
        assert same(found, values)


LAYOUTS = st.sampled_from(["frames", "columns"])
CODERS = st.sampled_from(["lz4", "zstd"])


@settings(max_examples=150, deadline=None)
@given(values_of_a_chunk(), LAYOUTS, CODERS, st.integers(0, 5), st.data())
def test_codecs(values: Any, layout: str, coder: str, k: int, draw: st.DataObject) -> None:
    common = {"layout": layout, "coder": coder}
    plain(values, "raw", {})
    plain(values, "blosc2", {"coder": coder})
    plain(values, "delta", {**common, "k": k})
    taps = draw.draw(st.lists(st.integers(-(2**18), 2**18), max_size=12))
    if values.dtype.kind != "f":
        return
    if fits(values):
        plain(values, "linear", {**common, "taps": taps})
    if draw.draw(st.booleans()):
        values[draw.draw(st.integers(0, len(values) - 1))] = np.nan
        values[0, 0] = -np.inf
    precision = draw.draw(st.sampled_from([1e-17, 1e-4, 0.3, 1e4]))
    plain(values, "bounded", {**common, "taps": taps}, precision)


@pytest.mark.parametrize("taps", [[], [65536], [131072, -65536], [-1], [2**22] * 12])
def test_zeros_of_both_signs_are_predicted(taps: list[int]) -> None:
    values = np.array([[0.0, -0.0], [-0.0, 0.0]] * 8, "f4")
    plain(values, "linear", {"layout": "frames", "taps": taps})
    plain(values[::-1] * [1, 0], "linear", {"layout": "frames", "taps": taps})


def test_large_numbers_of_the_grid_and_exceptions() -> None:
    x = np.array([[4e15, -4e15, 5e15, np.inf, np.nan, 1e300, -0.0, 3e-4]] * 9)
    x[1::2] *= -0.7
    for taps in ([], [65536], [196608, -196608, 65536], [2**26, -(2**26), 12345]):
        plain(x, "bounded", {"layout": "columns", "taps": taps}, 0.51)


@pytest.mark.parametrize("taps", [[32768], [-32768], [98304, -32768]])
def test_ties_of_a_prediction_go_to_even(taps: list[int]) -> None:
    x = np.arange(-40.0, 40.0).reshape(16, 5) ** 2
    plain(x, "bounded", {"layout": "frames", "taps": taps}, 16 / 31)


def test_tiles_of_atoms_and_steps_in_a_chunk(tmp_path: Path) -> None:
    fields = [
        Field("positions", "float32", ("atom", 3), "Å", precision=1e-3),
        Field("forces", "float32", ("atom", 3), "eV/Å", every=None, codec="linear"),
        Field("big", "int16", (50_000,), ""),
    ]
    random, path = np.random.default_rng(0), tmp_path / "md.son"
    writer = create(path, n_atoms=9000, fields=fields, commit="manual", threaded=False)
    x = random.normal(size=(9000, 3))
    for step in range(0, 100, 2):
        x += 0.01 * random.normal(size=x.shape)
        big = random.integers(0, 9, 50_000)
        values: Any = {"positions": x, "big": big}
        writer.append(step, **values, **({"forces": x} if step % 3 == 0 else {}))
    writer.close()
    agree(path)
    tiles = [c for c in chunks(path) if c["field"] == 0]
    assert len(tiles) > 1
    assert all(c["count"] == 50 for c in tiles)
    assert sum(c["field"] == 2 for c in chunks(path)) > 1


def chunks(path: Path) -> Iterator[dict[str, Any]]:
    """The chunks of all BLOCKs."""
    data = path.read_bytes()
    for at in range(64, len(data), 64):
        found = naive_reader.record(data, at)
        if found and found.kind == naive_reader.BLOCK:
            yield from naive_reader.unpacked(found, found.kind, "")["chunks"]


def test_steps_of_more_than_256_runs(tmp_path: Path) -> None:
    path, random = tmp_path / "md.son", np.random.default_rng(1)
    writer = create(path, fields=[Field("e", "float64", (), "eV", every=None)], n_atoms=0)
    steps = np.cumsum(random.integers(1, 9, 2000))
    for step in steps.tolist():
        writer.append(step, e=0.5 * step)
    writer.close()
    naive = agree(path)
    assert naive is not None
    assert naive["steps"]["e"].tolist() == steps.tolist()
    assert any(c["field"] is None for c in chunks(path))


def test_levels_of_the_index_are_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepson.growth.FAN_OUT", 3)
    path = tmp_path / "md.son"
    write(path, [range(i, i + 4) for i in range(0, 120, 4)])
    assert agree(path) is not None


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("naive") / "md.son"
    write(path, [range(20), range(20, 40)])
    return path.read_bytes()


def parts(small: dict[str, Any], large: dict[str, Any]) -> Iterator[bool]:
    """Whether each sample and tree of `small` is one of `large`."""
    for name, steps in small["steps"].items():
        places = np.searchsorted(large["steps"][name], steps)
        yield np.array_equal(large["steps"][name][places], steps)
        yield same(large["arrays"][name][places], small["arrays"][name])
    for step, tree in small["checkpoints"]:
        yield tree is None or same(dict(large["checkpoints"])[step], tree)
    yield small["metadata"] is None or same(small["metadata"], large["metadata"])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_byte_gives_no_other_data(sound: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(sound) - 1))
    changed = flipped(sound, place, 1 << draw.draw(st.integers(0, 7)))
    whole = naive_reader.read(sound)
    try:
        found = naive_reader.read(changed, strict=False)
    except Refused:
        return
    assert all(parts(found, whole))
    if not found["unreadable"] and found["frames"] == whole["frames"]:
        assert same(found["arrays"], whole["arrays"])


def test_a_last_transaction_that_does_not_verify_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    write(path, [range(20), range(20, 40)], seal=False)
    data = path.read_bytes()
    start = list(places_of(data, naive_reader.COMMIT))[-2] + 224
    for place in range(start, len(data) - 64, 97):
        path.write_bytes(flipped(data, place))
        found = agree(path)
        padding = found is not None and not found["torn_bytes"]
        assert found is not None
        assert found["torn_bytes"] == (0 if padding else len(data) - start)
        assert found["frames"] == (20 if padding else 10)
        assert not padding or naive_reader.read(data)["digest"] == found["digest"]


def grown(path: Path, base: bytes, steps: range) -> bytes:
    """`base` after one more transaction, killed."""
    path.write_bytes(base)
    writer = stepson.open(path, "a", threaded=False, commit="manual")
    for step in steps:
        writer.append(step, **frame(step))
    writer.commit()
    writer.abandon()
    return path.read_bytes()


def test_a_commit_of_an_earlier_life_hides_none(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    write(path, [range(20)], seal=False)
    base = path.read_bytes()
    before, now = (grown(path, base, range(20, n, 2)) for n in (400, 30))
    path.write_bytes(now + before[len(now) :])
    found = agree(path)
    assert found is not None
    assert found["frames"] == 15
    assert found["torn_bytes"] == len(before) - len(now)


def test_damage_is_told_apart(sound: bytes) -> None:
    first = next(c for c in places_of(sound, naive_reader.BLOCK))
    with pytest.raises(Damaged, match="energy"):
        naive_reader.read(flipped(sound, first))
    found = naive_reader.read(flipped(sound, first), strict=False)
    assert found["unreadable"] == [("energy", 0, 18)]
    assert found["steps"]["energy"].tolist() == list(range(20, 40, 2))
    assert found["steps"]["positions"].tolist() == [0, 10, 20, 30]


def places_of(data: bytes, kind: int) -> Iterator[int]:
    """Where the payloads of the records of a type start."""
    for at in range(64, len(data), 64):
        found = naive_reader.record(data, at)
        if found and found.kind == kind:
            yield found.payload


def test_script(sound: bytes, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.son", tmp_path / "bad.son"
    good.write_bytes(sound)
    bad.write_bytes(sound[:999])
    script = Path(naive_reader.__file__)

    def call(*arguments: str, text: str = "") -> Any:
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True)

    one, none = call(str(good)), call(str(bad))
    assert json.loads(one.stdout)["fields"]["energy"]["steps"] == list(range(0, 40, 2))
    assert (one.returncode, none.returncode) == (0, 1)
    assert (none.stdout, len(none.stderr.splitlines())) == ("", 1)
    both = io.StringIO(call("--batch", text=f"{good}\n{bad}\n").stdout)
    assert json.loads(both.readline()) == json.loads(one.stdout)
    assert list(json.loads(both.readline())) == ["refused"]
