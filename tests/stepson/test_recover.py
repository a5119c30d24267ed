"""`stepson.recover`: nothing sound is dropped, nothing is invented, whatever is damaged."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import stepson
from spec.generator.file import File
from spec.generator.records import field as field_map
from stepson.errors import (
    DamagedError,
    FormatError,
    SchemaError,
    StepsonError,
    WriterError,
)
from stepson.records import RecordType
from stepson.recovery.recover import Recovery, recover
from stepson.scan import Record, read_commit
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from tests.stepson.files import FIELDS, Field, create, flipped, frame, records, write
from tests.stepson.test_hostile import changes

pytestmark = pytest.mark.filterwarnings("ignore::stepson.DamageWarning")

MIXED = (
    Field("positions", "float32", ("atom", 3), "Å", precision=1e-3),
    Field("forces", "float64", ("atom", 3), "eV/Å", every=3, offset=1),
    Field("energy", "float64", (), "eV"),
    Field("events", "int32", (2,), "", every=None),
    Field("image", "uint8", (30, 10), "", every=2),
)
ATOMS = 40


def mixed(step: int, rng: np.random.Generator) -> dict[str, Any]:
    found: dict[str, Any] = {"positions": rng.normal(size=(ATOMS, 3))}
    found["energy"] = rng.normal()
    if step % 3 == 1:
        found["forces"] = rng.normal(size=(ATOMS, 3))
    if step % 7 in (2, 3) or step % 11 == 1:
        found["events"] = [step, -step]
    if step % 2 == 0:
        found["image"] = rng.integers(0, 255, (30, 10), np.uint8)
    return found


def write_mixed(path: Path, *, seal: bool = True, seed: int = 0, steps: int = 90) -> None:
    """Bounded, lossless and irregular fields; blocks of 15 frames; notes, checkpoints."""
    rng = np.random.default_rng(seed)
    writer = create(path, fields=MIXED, n_atoms=ATOMS, commit="manual", threaded=False)
    for step in range(steps):
        writer.append(step, **mixed(step, rng))
        if step % 15 == 14:
            writer.checkpoint({"state": rng.normal(size=5), "seed": step})
            writer.note({"at": step})
            writer.commit()
    writer.close() if seal else writer.abandon()


def write_plain(path: Path, *, seal: bool = True) -> None:
    write(path, [range(40), range(40, 80), range(80, 140)], seal=seal)


def write_deep(path: Path) -> None:
    """INDEXes of several levels, reopened and sealed again and again."""
    writer = create(path, commit="manual", threaded=False)
    for i in range(12):
        for step in (4 * i, 4 * i + 2):
            writer.append(step, **frame(step))
        writer.checkpoint({"i": i})
        writer.commit()
        if i % 4 == 3:
            writer.close()
            writer = stepson.open(path, "a", commit="manual", threaded=False)
    writer.close()


KINDS: dict[str, Callable[[Path], None]] = {
    "plain": write_plain,
    "mixed": write_mixed,
    "deep": write_deep,
    "unsealed": lambda path: write_mixed(path, seal=False),
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of atoms, chunks of samples, chunks of steps and deep indexes in tiny files."""
    monkeypatch.setattr("stepson.growth.FAN_OUT", 3)
    monkeypatch.setattr("stepson.encoder.CHUNK_RAW", 1500)
    monkeypatch.setattr("stepson.encoder.MIN_TILE", 8)
    monkeypatch.setattr("stepson.encoder.MAX_RUNS", 12)


class Truth(NamedTuple):
    """What a file holds."""

    data: bytes
    steps: dict[str, Any]
    values: dict[str, Any]
    points: list[int]
    records: list[Record]

    @property
    def kinds(self) -> list[int]:
        return [each.prefix.type for each in self.records]


_made: dict[str, Truth] = {}


@pytest.fixture
def truth(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Truth:
    return truth_of(request.param, tmp_path_factory.mktemp("made"))


def truth_of(kind: str, folder: Path) -> Truth:
    if kind not in _made:
        path = folder / f"{kind}-made.son"
        KINDS[kind](path)
        data = path.read_bytes()
        path.unlink()
        traj = Trajectory(Bytes(data))
        found = list(records(data))
        points = [r.map["step"] for r in found if r.prefix.type == RecordType.CHECKPOINT]
        steps = {name: traj[name].steps[:] for name in traj.fields}
        values = {name: traj[name][:] for name in traj.fields}
        _made[kind] = Truth(data, steps, values, points, found)
    return _made[kind]


def slow(values: Iterable[Any]) -> list[Any]:
    return [pytest.param(each, marks=pytest.mark.slow) for each in values]


every_kind = pytest.mark.parametrize("truth", KINDS, indirect=True)


def attempt(folder: Path, data: bytes, **options: Any) -> tuple[Recovery, Trajectory]:
    old, new = folder / "old.son", folder / "new.son"
    old.write_bytes(data)
    new.unlink(missing_ok=True)
    done = recover(old, new, **options)
    assert old.read_bytes() == data
    assert not list(folder.glob(".*")), "nothing hidden is left behind"
    return done, stepson.open(new)


def check(truth: Truth, done: Recovery, traj: Trajectory) -> dict[str, int]:
    """What was saved is true, what is missing was told; returns samples lost by field."""
    assert traj.verify(deep=True).ok, str(traj.verify(deep=True))
    assert traj.sealed
    missing = {}
    for name, steps in truth.steps.items():
        found = traj[name].steps[:]
        assert np.isin(found, steps).all(), f"{name}: a sample was invented"
        kept = np.isin(steps, found)
        column, values = traj[name][:], truth.values[name][kept]
        assert column.tobytes() == values.tobytes(), f"{name}: a sample is wrong"
        gone = steps[~kept]
        told = np.zeros(len(gone), bool)
        for first, last in done.lost[name]:
            told |= (gone >= first) & (gone <= last)
        if not done.torn_bytes:
            assert told.all(), f"{name}: steps {gone[~told]} are missing, and not told"
        assert done.samples[name] == len(found)
        for first, last in done.recovered[name]:
            assert first in found
            assert last in found
        missing[name] = len(gone)
    assert done.frames == len(traj)
    assert done.complete == (not any(done.lost.values()) and _rest_is_complete(done))
    assert traj.metadata["recovered"]["complete"] == done.complete
    return missing


def _rest_is_complete(done: Recovery) -> bool:
    lost = done.checkpoints_lost or done.metadata_lost or done.header_lost
    return not lost


def places(record: Record) -> Iterator[int]:
    """The prefix, the map, and every chunk of a record."""
    yield record.offset + 9
    yield record.offset + 29
    if record.prefix.map_length:
        yield record.offset + 33
        yield record.offset + 32 + record.prefix.map_length // 2
    for each in record.map.get("chunks", []) if record.prefix.map_length else ():
        yield record.payload + each["offset"] + each["size"] // 2
    if record.prefix.type == RecordType.COMMIT:
        yield record.offset + 100


@every_kind
def test_a_sound_file_is_copied(truth: Truth, tmp_path: Path) -> None:
    done, traj = attempt(tmp_path, truth.data)
    assert not any(check(truth, done, traj).values())
    assert done.complete
    assert not done.damages
    assert list(done.checkpoints) == truth.points
    old = Trajectory(Bytes(truth.data))
    assert [*traj.fields.values()] == [*old.fields.values()]
    assert traj.metadata["timestep"] == 4.0
    assert traj.metadata["recovered"]["uuid"] == old.uuid
    last = old.checkpoint()
    for key, value in traj.checkpoint().items():
        assert np.array_equal(value, last[key])


def test_chunks_are_copied_as_they_are(tmp_path: Path) -> None:
    """Not decoded and encoded again: the largest error of a bounded chunk stays known."""
    truth = truth_of("mixed", tmp_path)
    _, traj = attempt(tmp_path, truth.data)

    def chunks(data: bytes) -> list[Any]:
        blocks = [r for r in records(data) if r.prefix.type == RecordType.BLOCK]
        drop = ("offset",)
        return [
            sorted(
                str({k: v for k, v in c.items() if k not in drop}) for c in b.map["chunks"]
            )
            for b in blocks
        ]

    found = chunks((tmp_path / "new.son").read_bytes())
    expected = chunks(truth.data)
    assert any("'error'" in text for block in expected for text in block)
    assert found == expected
    assert traj.opened.table.totals == Trajectory(Bytes(truth.data)).opened.table.totals


@every_kind
@pytest.mark.parametrize("share", [1, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_byte_anywhere(truth: Truth, share: int, tmp_path: Path) -> None:
    sealed = truth.records[-1].prefix.type == RecordType.FOOTER
    commits = [r for r in truth.records if r.prefix.type == RecordType.COMMIT]
    torn_from = truth.data.__len__() if sealed else commits[-2].end
    rng = np.random.default_rng(0)
    some = rng.permutation(len(truth.records))[: 16 * share]
    for record in (truth.records[number] for number in some):
        kind = record.prefix.type
        tried = list(places(record))
        for place in rng.choice(tried, min(len(tried), share), replace=False).tolist():
            data = flipped(truth.data, place)
            if kind == RecordType.SCHEMA:
                with pytest.raises(DamagedError, match="--like"):
                    attempt(tmp_path, data)
                continue
            done, traj = attempt(tmp_path, data)
            missing = check(truth, done, traj)
            where = f"{RecordType(kind).name} at {record.offset}, byte {place}"
            if record.offset >= torn_from:
                assert done.torn_bytes, where
                continue
            if kind != RecordType.FOOTER:  # without it a file looks like one never closed
                assert done.damages, where
            if kind == RecordType.BLOCK:
                _check_block(record, place, missing, traj.schema, done)
            else:
                assert not any(missing.values()), where
            assert (kind == RecordType.CHECKPOINT) == bool(done.checkpoints_lost), where


def _check_block(
    record: Record, place: int, missing: dict[str, int], schema: Any, done: Recovery
) -> None:
    """No more is lost than what the damaged bytes held, less what SCALARS has."""
    names = list(schema.places)
    if place < record.payload:
        counts = record.map["samples"]
        assert max(missing.values()) <= max(counts)
        return
    for each in record.map["chunks"]:
        start = record.payload + each["offset"]
        if start <= place < start + each["size"] and each["field"] is not None:
            name = names[each["field"]]
            others = {key: n for key, n in missing.items() if key != name}
            assert not any(others.values()), f"{name} was hit, {others} are gone"
            assert missing[name] <= each["count"]
            assert [d.field for d in done.damages] == [name]


def test_small_fields_of_a_lost_block_come_from_scalars(tmp_path: Path) -> None:
    truth = truth_of("plain", tmp_path)
    block = [r for r in truth.records if r.prefix.type == RecordType.BLOCK][1]
    done, traj = attempt(tmp_path, flipped(truth.data, block.offset + 9))
    missing = check(truth, done, traj)
    assert missing == {"positions": 4, "energy": 0, "heat_flux": 0}
    assert done.lost["positions"] == ((40, 78),)
    assert done.recovered["positions"] == ((0, 30), (80, 130))
    assert done.irregular == ("positions",)
    assert traj.fields["positions"].every is None
    assert traj.fields["positions"].attributes["every_before_recovery"] == 10
    assert traj.fields["energy"].every == 2


def test_a_block_lost_whole_leaves_fields_regular(tmp_path: Path) -> None:
    """Frames may be missing; then no field is due there."""
    write_plain(tmp_path / "made.son", seal=False)
    data = (tmp_path / "made.son").read_bytes()
    block = [r for r in records(data) if r.prefix.type == RecordType.BLOCK][1]
    done, traj = attempt(tmp_path, flipped(data, block.offset + 9))
    assert done.irregular == ()
    assert all(last == (40, 78) for (last,) in done.lost.values())
    assert traj["energy"].steps[:].tolist() == [*range(0, 40, 2), *range(80, 140, 2)]
    assert done.recovered["energy"] == ((0, 38), (80, 138))
    assert not done.complete


@every_kind
def test_sectors_of_zeros(truth: Truth, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        start = int(rng.integers(1024, len(truth.data))) // 512 * 512
        end = start + 512 * int(rng.choice([1, 2, 8]))
        data = truth.data[:start] + bytes(end - start) + truth.data[end:]
        data = data[: len(truth.data)]
        hit = [r for r in truth.records if r.offset < end and start < r.end]
        try:
            done, traj = attempt(tmp_path, data)
        except FormatError:
            kinds = [r.prefix.type for r in hit]
            assert kinds.count(RecordType.BLOCK) == truth.kinds.count(RecordType.BLOCK)
        else:
            check(truth, done, traj)


@every_kind
def test_bytes_lost_in_the_middle(truth: Truth, tmp_path: Path) -> None:
    """What is behind has moved, by any number of bytes, and is found all the same."""
    commits = [r for r in truth.records if r.prefix.type == RecordType.COMMIT]
    blocks = [r for r in truth.records if r.prefix.type == RecordType.BLOCK]
    cut = blocks[2].offset + 100
    for length in (64, 640, 37, 1, 4096):
        data = truth.data[:cut] + truth.data[cut + length :]
        done, traj = attempt(tmp_path, data)
        check(truth, done, traj)
        behind = next((c for c in commits if c.offset > cut + length), commits[-1])
        before = {
            name: steps[steps < blocks[2].map["first"]]
            for name, steps in truth.steps.items()
        }
        after = [b for b in blocks if b.offset > behind.offset]
        for name in truth.steps:
            found = traj[name].steps[:]
            assert np.isin(before[name], found).all()
            if after and not done.torn_bytes:
                late = truth.steps[name][truth.steps[name] >= after[0].map["first"]]
                assert np.isin(late, found).all(), f"{name} behind {length} lost bytes"


@every_kind
def test_the_start_or_the_end_is_gone(truth: Truth, tmp_path: Path) -> None:
    size = len(truth.data)
    with pytest.raises((DamagedError, FormatError)):
        attempt(tmp_path, bytes(512) + truth.data[512:] if size > 4096 else bytes(size))
    (tmp_path / "like.son").write_bytes(truth.data)
    first = next(r for r in truth.records if r.prefix.type == RecordType.COMMIT).end
    data = bytes(first) + truth.data[first:]
    done, traj = attempt(tmp_path, data, like=tmp_path / "like.son")
    assert not any(check(truth, done, traj).values())
    assert done.borrowed == ("SCHEMA", "METADATA")
    assert traj.metadata["numbers"].tolist() == [18] * traj.n_atoms
    half = size // 2 // 64 * 64
    done, traj = attempt(tmp_path, truth.data[:half] + bytes(size - half))
    assert done.torn_bytes
    check(truth, done, traj)
    assert len(traj)


def mangled(rng: np.random.Generator, data: bytes) -> bytes:
    """One to four accidents: bits, sectors, bytes lost, added, doubled, the end cut off."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(1100, len(out) - 1))
        length = int(rng.choice([1, 7, 64, 512, 640, 2000]))
        kind = int(rng.integers(7))
        if kind <= 1:
            out[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            sector, count = place // 512 * 512, 512 * int(rng.integers(1, 4))
            out[sector : sector + count] = bytes(len(out[sector : sector + count]))
        elif kind == 3:
            del out[place : place + length]
        elif kind == 4:
            out[place:place] = rng.bytes(length)
        elif kind == 5:
            out[place:place] = out[max(0, place - length) : place]
        elif rng.random() < 0.3:
            del out[int(rng.integers(len(out) // 2, len(out))) :]
    return bytes(out)


@pytest.mark.parametrize("seed", [*range(3), *slow(range(3, 60))])
@every_kind
def test_several_accidents(truth: Truth, seed: int, tmp_path: Path) -> None:
    """Nothing wrong, nothing missing that is not told, no intact block left behind."""
    rng = np.random.default_rng(seed)
    for _ in range(5):
        data = mangled(rng, truth.data)
        try:
            done, traj = attempt(tmp_path, data)
        except FormatError:
            continue
        check(truth, done, traj)
        end = len(data) - done.torn_bytes
        for block in (r for r in truth.records if r.prefix.type == RecordType.BLOCK):
            size = block.prefix.head_length + block.prefix.payload_length
            place = data.find(truth.data[block.offset : block.offset + size])
            if 0 <= place <= end - size:
                _check_there(truth, block, traj)


def _check_there(truth: Truth, block: Record, traj: Trajectory) -> None:
    for name, steps in truth.steps.items():
        own = steps[(steps >= block.map["first"]) & (steps < block.map["end"])]
        assert np.isin(own, traj[name].steps[:]).all(), f"{name} of an intact block"


def test_metadata_is_lost_alone(tmp_path: Path) -> None:
    truth = truth_of("plain", tmp_path)
    record = next(r for r in truth.records if r.prefix.type == RecordType.METADATA)
    done, traj = attempt(tmp_path, flipped(truth.data, record.offset + 40))
    assert done.metadata_lost == ("all",)
    assert not any(check(truth, done, traj).values())
    assert not done.complete
    chunk = record.map["chunks"][0]  # numbers
    done, traj = attempt(tmp_path, flipped(truth.data, record.payload + chunk["offset"]))
    assert done.metadata_lost == ("numbers",)
    assert traj.metadata["timestep"] == 4.0
    assert "numbers" not in traj.metadata


def test_the_first_bytes_or_the_header_are_damaged(tmp_path: Path) -> None:
    truth = truth_of("plain", tmp_path)
    for place in (0, 5, 8, 40):
        done, traj = attempt(tmp_path, flipped(truth.data, place))
        assert not any(check(truth, done, traj).values())
        assert done.complete
    done, traj = attempt(tmp_path, flipped(truth.data, 64 + 40))
    assert not any(check(truth, done, traj).values())
    assert done.header_lost
    assert not done.complete


def test_torn_blocks_on_request(tmp_path: Path) -> None:
    path = tmp_path / "made.son"
    writer = create(path, commit="manual", threaded=False)
    for step in range(0, 40, 2):
        writer.append(step, **frame(step))
    writer.commit()
    committed = path.stat().st_size
    for step in range(40, 80, 2):
        writer.append(step, **frame(step))
    writer._hand_over_block()
    writer.abandon()
    data = path.read_bytes() + bytes(100)
    done, traj = attempt(tmp_path, data)
    assert (len(traj), done.torn_bytes) == (20, len(data) - committed)
    assert done.complete
    done, traj = attempt(tmp_path, data, torn=True)
    assert len(traj) == 40
    assert done.torn_taken


def test_a_repeated_block_counts_once(tmp_path: Path) -> None:
    """A torn transaction stands in front of the one that repeats it: the chain knows."""
    path = tmp_path / "made.son"
    write(path, [range(40)], seal=False)
    with stepson.open(path, "a", commit="manual", threaded=False) as out:
        for step in range(40, 80, 2):
            out.append(step, **{k: 0 * v for k, v in frame(step).items()})
        out._hand_over_block()
        out.abandon()
    with stepson.open(path, "a", commit="manual", threaded=False) as out:
        for step in range(40, 90, 2):
            out.append(step, **frame(step))
        out.commit()
        for step in range(90, 120, 2):
            out.append(step, **frame(step))
    data = path.read_bytes()
    traj = Trajectory(Bytes(data))
    steps = {name: traj[name].steps[:] for name in traj.fields}
    values = {name: traj[name][:] for name in traj.fields}
    truth = Truth(data, steps, values, [], [])
    chain = [traj.opened.tail.commit]
    while chain[-1].previous:
        chain.append(read_commit(Bytes(data), chain[-1].previous, chain[0].uuid))
    for commit in chain:
        done, again = attempt(tmp_path, flipped(data, commit.offset + 100))
        assert not any(check(truth, done, again).values()), commit.offset


def test_some_fields_only(tmp_path: Path) -> None:
    truth = truth_of("mixed", tmp_path)
    _, traj = attempt(tmp_path, truth.data, fields=["forces", "energy"])
    assert list(traj.fields) == ["forces", "energy"]
    assert traj["forces"][:].tobytes() == truth.values["forces"].tobytes()
    with pytest.raises(SchemaError, match="no field 'velocity'"):
        attempt(tmp_path, truth.data, fields=["velocity"])


def test_too_many_cadences_is_one_clear_line(tmp_path: Path) -> None:
    fields = [Field(f"f{i}", "float32", ("atom", 3), "") for i in range(10)]
    writer = create(tmp_path / "made.son", fields=fields, threaded=False)
    for step in range(5):
        writer.append(step, **{each.name: np.ones((3, 3)) for each in fields})
    writer.close()
    data = (tmp_path / "made.son").read_bytes()
    block = next(r for r in records(data) if r.prefix.type == RecordType.BLOCK)
    for each in block.map["chunks"][:9]:
        data = flipped(data, block.payload + each["offset"])
    with pytest.raises(SchemaError, match="--fields"):
        attempt(tmp_path, data)
    assert not (tmp_path / "new.son").exists()
    _, traj = attempt(tmp_path, data, fields=["f8", "f9"])
    assert traj["f9"][:].tolist() == np.ones((5, 3, 3)).tolist()


@pytest.mark.parametrize("size", [0, 10, 64, 5000, 100_000])
def test_garbage(size: int, tmp_path: Path) -> None:
    data = np.random.default_rng(size).bytes(size)
    with pytest.raises(FormatError, match="nothing found"):
        attempt(tmp_path, data)
    assert [each.name for each in tmp_path.iterdir()] == ["old.son"]


@pytest.mark.parametrize("count", [15, *slow([400])])
def test_files_that_lie(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checksums that fit everything: whatever stands behind them is an error of ours."""

    def nothing(data: Any, crc: int = 0) -> int:
        return 0

    for name in ("records", "scan", "transaction", "resync", "verify", "recovery.copying"):
        monkeypatch.setattr(f"stepson.{name}.crc32c", nothing)
    monkeypatch.setattr("crc32c.crc32c", nothing)
    path = tmp_path / "made.son"
    KINDS["mixed"](path)
    for number, bad in enumerate(
        changes(np.random.default_rng(0), path.read_bytes(), count)
    ):
        (tmp_path / "old.son").write_bytes(bad)
        with suppress(StepsonError):
            recover(tmp_path / "old.son", tmp_path / f"{number}.son", torn=True)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    truth = truth_of("plain", tmp_path)
    path = tmp_path / "md.son"
    path.write_bytes(truth.data)
    (tmp_path / "there.son").write_text("mine")
    for target in (path, tmp_path / "there.son"):
        with pytest.raises(WriterError, match="never overwritten"):
            recover(path, target)
    assert path.read_bytes() == truth.data
    assert (tmp_path / "there.son").read_text() == "mine"


def test_a_kill_leaves_nothing_with_a_name(tmp_path: Path) -> None:
    truth = truth_of("mixed", tmp_path)
    path = tmp_path / "md.son"
    path.write_bytes(truth.data)

    def die(done: int, total: int) -> None:
        if done > 0.7 * total:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        recover(path, tmp_path / "new.son", die)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not (tmp_path / "new.son").exists()
    assert len(list(tmp_path.glob(".*.born"))) == 1
    done, _ = attempt(tmp_path, truth.data)  # sweeps it away
    assert done.complete


def test_progress_never_goes_back(tmp_path: Path) -> None:
    truth = truth_of("mixed", tmp_path)
    seen: list[tuple[int, int]] = []
    attempt(
        tmp_path, truth.data, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (2 * len(truth.data), 2 * len(truth.data))


def test_recovered_twice(tmp_path: Path) -> None:
    truth = truth_of("plain", tmp_path)
    attempt(tmp_path, truth.data)
    once = (tmp_path / "new.son").read_bytes()
    _, traj = attempt(tmp_path, once)
    told = traj.metadata["recovered"]
    assert told["before"]["uuid"] == Trajectory(Bytes(truth.data)).uuid
    assert FIELDS[0] in traj.fields.values()


def transactions(truth: Truth) -> list[tuple[int, int]]:
    """Where each transaction starts and ends, the first one left out."""
    ends = [r.end for r in truth.records if r.prefix.type == RecordType.COMMIT]
    return list(pairwise(ends))


@every_kind
def test_bytes_of_the_file_behind_its_end(truth: Truth, tmp_path: Path) -> None:
    """As after `cat backup >> md.son`: what they hold is older than what counts."""
    data, spans = truth.data, transactions(truth)
    for first, last in ((0, 1), (1, 3), (2, 2)):
        copy = data[spans[first][0] : spans[last][1]]
        for more in (copy, data[: spans[last][1]], bytes(-len(data) % 4096) + copy):
            done, traj = attempt(tmp_path, data + more)
            assert not any(check(truth, done, traj).values())
            assert done.torn_bytes >= len(more)


def test_a_run_goes_on_writing_meanwhile(tmp_path: Path) -> None:
    """What is appended while a file is read does not belong to what was looked at."""
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    for step in range(0, 40, 2):
        writer.append(step, **frame(step))
    writer.commit()

    def go_on(done: int, total: int) -> None:
        step = writer.last_step + 2 if writer.last_step is not None else 0
        if step < 60:
            writer.append(step, **frame(step))
            writer.commit()

    size = path.stat().st_size
    done = recover(path, tmp_path / "new.son", go_on)
    writer.close()
    assert (done.size, done.torn_bytes, done.frames) == (size, 0, 20)
    assert done.complete


@every_kind
def test_a_commit_and_what_follows_it(truth: Truth, tmp_path: Path) -> None:
    """One hole over the start of a transaction: the rest of that still counts."""
    for commit, after in list(pairwise(truth.records))[:-3]:
        if commit.prefix.type == RecordType.COMMIT:
            bad = flipped(flipped(truth.data, commit.offset + 20), after.offset + 20)
            done, traj = attempt(tmp_path, bad)
            missing = check(truth, done, traj)
            if after.prefix.type != RecordType.BLOCK and not done.torn_bytes:
                assert not any(missing.values()), after.offset


def later(values: Any) -> Any:
    """A codec of a later version."""
    return "x-later", {}, values.tobytes(), values


def of_another(
    second: Any = None, change: Any = None, scalars: Any = None, how: Any = None
) -> bytes:
    """Three blocks by another program; all but `scalars` is of the middle one."""
    generated: Any = File
    told: Any = field_map
    fields = told("x", shape=["atom", 2]), told("e"), told("note", every=None)
    file = generated.created(*fields)
    for i in range(3):
        steps, notes = np.arange(6 * i, 6 * i + 6), np.arange(6 * i, 6 * i + 6, 2)
        x, e = np.zeros((6, 2, 2)), steps / 3
        samples = {"x": (steps, x), "e": (steps, e), "note": (notes, notes / 1)}
        more = {"change": change} if change and i == 1 else {}
        file.block(samples, how if i == 1 else None, second if i == 1 else None, **more)
        file.commit()
    if scalars:
        file.index(0, file.scalars(scalars))
        file.commit()
        file.footer()
    return bytes(file.data)


@pytest.mark.parametrize(
    ("lie", "lost"),
    [
        ({"second": {"steps_chunk": {1: later}}}, {"note"}),
        ({"change": lambda m: {**m, "runs": [[[6, 0, 6]], m["runs"][1]]}}, set()),
        ({"change": lambda m: {**m, "runs": [m["runs"][0], [[6, 0, 3]]]}}, {"note"}),
    ],
)
def test_steps_that_cannot_be_read_are_told(
    tmp_path: Path, lie: dict[str, Any], lost: set[str]
) -> None:
    """Those of a regular field follow from the frames; others are lost, and it is said."""
    path = tmp_path / "md.son"
    path.write_bytes(of_another(**lie))
    result = recover(path, tmp_path / "new.son")
    assert {name for name, spans in result.lost.items() if spans} == lost
    assert result.complete == (not lost)
    assert result.samples == {"x": 18, "e": 18, "note": 6 if lost else 9}
    assert result.damages


def test_a_codec_that_is_not_known_is_copied(tmp_path: Path) -> None:
    """Who knows it reads it; of small fields there is no second copy then."""
    path = tmp_path / "md.son"
    path.write_bytes(of_another(how={"e": later}))
    with pytest.warns(stepson.DamageWarning, match="small fields are not copied"):
        result = recover(path, tmp_path / "new.son")
    assert result.complete
    assert result.samples == {"x": 18, "e": 18, "note": 9}


def test_a_copy_of_a_codec_that_is_not_known_hides_nothing(tmp_path: Path) -> None:
    def change(content: Any) -> Any:
        chunks = [{**each, "codec": "x-later"} for each in content["chunks"]]
        return {**content, "chunks": chunks}

    path = tmp_path / "md.son"
    path.write_bytes(of_another(scalars=change))
    with pytest.warns(stepson.DamageWarning, match="the blocks are read instead"):
        energy = stepson.open(path)["e"][:]
    assert np.array_equal(energy, np.arange(18) / 3)
    with pytest.warns(stepson.DamageWarning):
        streamed = [e for each in stepson.open(path).stream("e") for e in each["e"]]
    assert np.array_equal(streamed, energy)
