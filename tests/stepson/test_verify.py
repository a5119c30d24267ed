"""Verification lists facts, goes on behind a break, and tells copies from data."""

from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c

import stepson
from stepson.errors import DamageWarning, FormatError
from stepson.records import Commit, RecordType, pack_head, pack_map
from stepson.scan import Record
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.verify import Verification, verify_damaged
from tests.stepson.files import flipped, records, write

pytestmark = pytest.mark.filterwarnings("ignore::stepson.DamageWarning")
BLOCKS = [range(i, i + 20) for i in range(0, 120, 20)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("verify") / "md.son"
    write(path, BLOCKS)
    return path.read_bytes()


def found(data: bytes, *, deep: bool = False) -> Verification:
    return Trajectory(Bytes(data)).verify(deep=deep)


def of_kind(data: bytes, kind: RecordType) -> list[Record]:
    return [r for r in records(data) if r.prefix.type == kind]


@pytest.mark.parametrize("deep", [False, True])
def test_a_chunk(data: bytes, deep: bool) -> None:
    block = of_kind(data, RecordType.BLOCK)[2]
    info = block.map["chunks"][-1]
    place = block.payload + info["offset"]
    result = found(flipped(data, place), deep=deep)
    (damage,) = result.damages
    assert damage.field == "positions"
    assert (damage.first_step, damage.last_step) == (40, 58)
    assert (damage.offset, damage.bytes) == (place, info["size"])
    assert damage.expected == info["crc32c"]
    assert damage.actual is not None
    assert damage.actual != damage.expected
    assert result.damaged_steps == 19
    assert result.frames == 50


def test_several_chunks_are_all_named(data: bytes) -> None:
    bad = data
    for block in of_kind(data, RecordType.BLOCK)[1:4]:
        for info in block.map["chunks"]:
            bad = flipped(bad, block.payload + info["offset"])
    result = found(bad, deep=True)
    assert sorted({each.field or "" for each in result.damages}) == sorted(
        ["energy", "heat_flux", "positions"]
    )
    assert len(result.damages) == 9
    assert result.damaged_steps == 57


def test_the_head_of_a_block(data: bytes) -> None:
    block = of_kind(data, RecordType.BLOCK)[3]
    for place in (block.offset + 9, block.offset + 40):
        (damage,) = found(flipped(data, place), deep=True).damages
        assert damage.offset == block.offset
        assert damage.bytes == block.prefix.length
        assert (damage.first_step, damage.last_step) == (60, 78)


def test_a_break_hides_nothing_before_or_behind(data: bytes) -> None:
    commits = of_kind(data, RecordType.COMMIT)
    blocks = of_kind(data, RecordType.BLOCK)
    bad = flipped(data, commits[3].offset + 100)
    for block in (blocks[0], blocks[2], blocks[5]):
        bad = flipped(bad, block.payload)
    result = found(bad)
    places = [each.offset for each in result.damages]
    assert places == [
        blocks[0].payload, blocks[2].payload, commits[3].offset, blocks[5].payload
    ]  # fmt: skip
    assert result.commits == len(commits) - 1
    broken = result.damages[2]
    assert broken.what == "a COMMIT does not verify"
    assert broken.first_step is None  # what it made visible can be read


def test_missing_bytes_are_counted(data: bytes) -> None:
    block = of_kind(data, RecordType.BLOCK)[3]
    bad = data[: block.offset + 50] + data[block.offset + 690 :]
    result = found(bad)
    (damage,) = result.damages
    assert "640 bytes are missing" in damage.what
    end = of_kind(data, RecordType.COMMIT)[3].end
    assert (damage.offset, damage.bytes) == (end, len(bad) - end)
    assert (damage.first_step, damage.last_step) == (59, 118)


def test_a_copy_is_called_one(data: bytes) -> None:
    (scalars,) = of_kind(data, RecordType.SCALARS)
    (damage,) = found(flipped(data, scalars.payload)).damages
    assert "a copy" in damage.what
    (index,) = of_kind(data, RecordType.INDEX)
    (damage,) = found(flipped(data, index.offset + 40), deep=True).damages
    assert damage.what == "the head of an INDEX does not verify"
    assert damage.first_step is None


def test_metadata_and_checkpoint(data: bytes) -> None:
    for kind, step in ((RecordType.METADATA, None), (RecordType.CHECKPOINT, 19)):
        record = of_kind(data, kind)[0]
        (damage,) = found(flipped(data, record.payload)).damages
        assert kind.name in damage.what
        assert damage.first_step == step


def test_a_broken_footer_is_no_damage(data: bytes) -> None:
    (footer,) = of_kind(data, RecordType.FOOTER)
    for place in (0, 5, 9, 40):
        result = found(flipped(data, footer.offset + place))
        assert result.ok
        assert result.broken_footer == len(data) - footer.offset
    assert found(data).broken_footer == 0
    assert found(data + bytes(100)).broken_footer == 0


def test_facts_are_plain(data: bytes) -> None:
    block = of_kind(data, RecordType.BLOCK)[0]
    (damage,) = found(flipped(data, block.payload)).damages
    assert damage.to_map() == {
        "what": "a chunk does not verify",
        "offset": block.payload,
        "bytes": block.map["chunks"][0]["size"],
        "field": damage.field,
        "first_step": 0,
        "last_step": 18,
        "expected": damage.expected,
        "actual": damage.actual,
        "file": None,
    }
    assert f"at byte {block.payload}" in str(damage)


def test_what_cannot_be_opened_says_what_to_do(data: bytes, tmp_path: Path) -> None:
    schema = of_kind(data, RecordType.SCHEMA)[0]
    zeros = bytes(len(data) - 4096)
    for bad in (
        flipped(data, 3),
        flipped(data, 64 + 40),
        flipped(data, schema.offset),
        flipped(data, schema.offset + 40),
        data[:1024] + zeros,
    ):
        path = tmp_path / "md.son"
        path.write_bytes(bad)
        with pytest.raises(stepson.FormatError, match="stepson recover IN OUT") as caught:
            stepson.open(path)
        assert str(caught.value).count("\n") == 0


def test_random_flips_are_found_where_they_are(data: bytes) -> None:
    rng = np.random.default_rng(1)
    for record in records(data):
        if record.prefix.type in (
            RecordType.HEADER,
            RecordType.SCHEMA,
            RecordType.FOOTER,
        ):
            continue
        used = record.prefix.head_length + record.prefix.payload_length
        place = record.offset + int(rng.integers(used))
        damages = found(flipped(data, place)).damages
        assert damages
        for each in damages:
            assert each.offset is not None
            assert record.offset <= each.offset <= place < each.offset + each.bytes


def test_a_commit_that_names_another_schema(data: bytes) -> None:
    """Only whoever goes along the chain can see it: opening reads the last COMMIT."""
    places = [r.offset for r in of_kind(data, RecordType.COMMIT)]
    lying, uuid = bytearray(data), Trajectory(Bytes(data)).opened.header.uuid
    for before, place in pairwise(places):
        commit = Commit.unpack(bytes(lying[place : place + 256]), place, uuid)
        chain = sha256(lying[before : before + 256]).digest()
        names = commit.schema if place == places[3] else commit.metadata
        lying[place : place + 256] = replace(commit, chain=chain, metadata=names).pack()
    end = places[-1] + 256  # FOOTER has another digest in it
    (damage,) = found(bytes(lying[:end])).damages
    assert damage.what == "a COMMIT names another SCHEMA or METADATA"
    assert damage.offset == places[3]


def test_a_table_that_lies_behind_right_checksums(data: bytes) -> None:
    """Opening goes around it; deep verification says so."""
    table = of_kind(data, RecordType.TABLE)[-1]
    content = {**table.map, "entries": {**table.map["entries"], "frames": "many"}}
    packed = pack_map(content, "TABLE")
    lying = bytearray(data)
    head = pack_head(RecordType.TABLE, packed, 0, table.prefix.sequence)
    assert len(head) <= table.prefix.length
    lying[table.offset : table.end] = head.ljust(table.prefix.length, b"\0")
    with pytest.warns(DamageWarning):
        result = found(bytes(lying), deep=True)
    assert table.offset in {each.offset for each in result.damages}


def lying_end(data: bytes, **lies: Any) -> bytes:
    """A file that ends with its first COMMIT but four, which says something else."""
    place = of_kind(data, RecordType.COMMIT)[3].offset
    uuid = Trajectory(Bytes(data)).opened.header.uuid
    commit = Commit.unpack(data[place : place + 256], place, uuid)
    return data[:place] + replace(commit, **lies).pack()


@pytest.mark.parametrize(
    "lies",
    [
        {"frames": 25},
        {"end_step": 55, "first_step": 55},
        {"end_step": 100},
        {"previous": 0},
    ],
)
def test_a_commit_that_lies_behind_right_checksums(
    data: bytes, lies: dict[str, int]
) -> None:
    """Its frames and steps are those of the index; the first one is the first."""
    assert found(lying_end(data), deep=True).ok
    lying = lying_end(data, **lies)
    (damage,) = found(lying, deep=True).damages
    assert damage.offset == len(lying) - 256


@pytest.mark.parametrize("column", ["first", "end"])
@pytest.mark.parametrize("change", [[1, 0], [-1, 1], [0, 1], [0, -1]])
def test_entries_that_lie_about_steps(data: bytes, column: str, change: list[int]) -> None:
    """They are an error where they are used: no step is silently missing."""
    end = lying_end(data)
    table = of_kind(end, RecordType.TABLE)[-1]
    entries = dict(table.map["entries"])
    told = entries[column]
    entries[column] = [told[0] + change[0], told[1] + change[1], *told[2:]]
    packed = pack_map({**table.map, "entries": entries}, "TABLE")
    head = pack_head(RecordType.TABLE, packed, 0, table.prefix.sequence)
    assert len(head) <= table.prefix.length
    lying = end[: table.offset] + head.ljust(table.prefix.length, b"\0") + end[table.end :]
    heads = 0
    for record in records(lying):
        if record.offset >= len(lying) - 256:
            break
        kind = record.prefix.type
        heads = 0 if kind == RecordType.COMMIT else crc32c(record.head, heads)
    commit = Trajectory(Bytes(end)).opened.tail.commit
    lying = lying[:-256] + replace(commit, heads_crc=heads).pack()
    traj = Trajectory(Bytes(lying))
    right = Trajectory(Bytes(end)).steps[:].tolist()
    for read in (
        lambda: traj.steps[:].tolist(),
        lambda: [step for each in traj.stream("energy") for step in each.steps["energy"]],
        lambda: [traj.at_step(step).step for step in right],
    ):
        with suppress(FormatError):
            assert read() == right
    assert not found(lying, deep=True).ok


def test_a_copy_of_a_commit_in_the_tail_is_no_loss(data: bytes) -> None:
    commit = of_kind(data, RecordType.COMMIT)[-1]
    copied = data + data[commit.offset : commit.offset + 256]
    assert found(copied).ok


def test_without_any_table_a_file_is_checked_all_the_same(tmp_path: Path) -> None:
    """Opening refuses it, and names what saves it; checking lists what is damaged."""
    path = tmp_path / "md.son"
    write(path, [range(40), range(40, 80), range(80, 140)])
    data = path.read_bytes()
    tables = [r for r in records(data) if r.prefix.type in (5, 8)]
    for record in tables:
        data = flipped(data, record.offset + 20)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="stepson recover"):
        stepson.open(path)
    for deep in (False, True):
        found, torn = verify_damaged(path, deep=deep)
        assert not torn
        spans = [(d.offset or 0, (d.offset or 0) + d.bytes) for d in found.damages]
        assert all(any(a <= r.offset < b for a, b in spans) for r in tables)
