"""Files behind URLs, on a real HTTP server: requests, bytes, and what may go wrong."""

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import aiohttp
import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepson
from stepson import (
    DamagedError,
    FormatError,
    RemoteError,
    SchemaError,
    SeriesWarning,
    WriterError,
)
from stepson.errors import StepsonError
from stepson.opening import Header, open_source
from stepson.recovery.recover import Recovery
from stepson.remote import file as remote_file
from stepson.remote.file import EXPECTED, KEPT, RemoteFile
from stepson.remote.http import Http
from stepson.remote.transport import Passing, Reply
from stepson.schema import Schema
from stepson.writing import start
from tests.stepson.files import FIELDS, Memory, check_content, frame, steps_of
from tests.stepson.servers import Files, http_server

BLOCKS = [range(20 * i, 20 * i + 20) for i in range(30)]
ATOMS = 2000
MANY = 3000


def build(blocks: Any = BLOCKS, *, seal: bool = True, n_atoms: int = 3) -> bytes:
    """A file in memory: a commit for each range of steps."""
    sink = Memory()
    numbers = np.full(n_atoms, 18)
    content = {"numbers": numbers, "masses": np.full(n_atoms, 39.948), "timestep": 4.0}
    fields = (replace(FIELDS[0], codec="raw"), *FIELDS[1:])
    header, schema = Header(uuid4().bytes, "", "tests"), Schema(fields, n_atoms)
    options: Any = {"commit": "manual", "threaded": False}
    writer = start(sink, Path("md.son"), header, schema, content, **options)
    for steps in blocks:
        for step in steps[::2]:
            writer.append(step, **frame(step, n_atoms))
        writer.commit()
    if seal:
        writer.close()
    return sink.data


SEALED = build()
OPEN = build(seal=False)
MIDDLE = build(n_atoms=MANY)
"""2 MB: most of it is not at the ends."""


@pytest.fixture
def server() -> Iterator[Files]:
    with http_server() as files:
        yield files


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepson.remote.transport.WAITS", (0.01, 0.01, 0.01))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 MB of positions that do not compress, with a heat flux at every step."""
    path = tmp_path_factory.mktemp("large") / "md.son"
    fields = [
        stepson.Field("positions", "float32", ("atom", 3), "Å", codec="raw"),
        stepson.Field("heat_flux", "float64", (3,), "eV Å/fs"),
    ]
    noise = np.random.default_rng(1).normal(size=(128, ATOMS, 3)).astype("f4")
    with stepson.create(
        path, fields=fields, numbers=[18] * ATOMS, verify=False, commit="manual"
    ) as out:
        for block in range(40):
            steps = np.arange(128 * block, 128 * (block + 1))
            flux = steps[:, None] * np.array([1.0, -1.0, 0.5])
            out.extend(steps=steps, positions=noise + np.float32(block), heat_flux=flux)
            if block % 4 == 3:
                out.commit()
    return path


@pytest.mark.parametrize(
    ("data", "most"), [(SEALED, 2), (OPEN, 3), (SEALED + bytes(60), 4), (OPEN[:-100], 4)]
)
def test_requests_of_opening(server: Files, data: bytes, most: int) -> None:
    """Sealed; at work; cut within a record; with torn bytes that are no multiple of 64."""
    server.content["/md.son"] = data
    with stepson.open(server.url + "md.son") as traj:
        steps = steps_of(BLOCKS if len(data) >= len(OPEN) else BLOCKS[:-1])
        assert len(server.asked) <= most
        assert server.sent <= 2**20
        assert traj.size == len(data)
        server.reset()
        assert len(traj) == len(steps)
        assert "md.son" in str(traj)
        assert traj.metadata["numbers"].tolist() == [18] * 3
        assert len(server.asked) <= 2
        check_content(traj, steps)


@pytest.mark.parametrize("torn", [10**5, 10**6, 4 * 10**6])
@pytest.mark.parametrize("told", [True, False])
def test_requests_behind_a_torn_tail(server: Files, torn: int, told: bool) -> None:
    """A killed writer leaves as much as a block."""
    garbage = np.random.default_rng(torn).bytes(torn)
    server.content["/md.son"] = OPEN + garbage
    server.size_told = told
    with stepson.open(server.url + "md.son") as traj:
        assert len(server.asked) <= (4 if told else 6)
        assert traj.torn_bytes == torn
        check_content(traj, steps_of(BLOCKS))


def test_a_large_open_file(server: Files, large: Path) -> None:
    """Of 120 MB, opening reads the ends and the last transaction."""
    data = large.read_bytes()
    with stepson.open(large) as traj:
        last = traj.opened.tail.commit
    server.content["/md.son"] = data[: last.start]
    with stepson.open(server.url + "md.son") as traj:
        assert len(traj) == 40 * 128
        transaction = traj.opened.tail.commit
        assert len(server.asked) <= 4
        assert server.sent <= 2**20 + transaction.end - transaction.start


def test_heat_flux_of_a_large_file(server: Files, large: Path) -> None:
    server.content["/md.son"] = large
    size = large.stat().st_size
    with stepson.open(server.url + "md.son") as traj:
        flux = np.concatenate([b["heat_flux"] for b in traj.stream("heat_flux")])
        assert np.array_equal(flux[:, 0], np.arange(40 * 128))
        assert np.array_equal(traj["heat_flux"][100:300], flux[100:300])
        assert server.sent < 0.01 * size
        assert len(server.asked) <= 6


@pytest.mark.parametrize("sealed", [True, False])
def test_neighbours_are_one_request(server: Files, sealed: bool) -> None:
    """30 small blocks: their heads and chunks come in a handful of requests."""
    server.content["/md.son"] = SEALED if sealed else OPEN
    with stepson.open(server.url + "md.son") as traj:
        server.reset()
        check_content(traj, steps_of(BLOCKS))
        assert len(server.asked) <= 4


def test_near_ranges_are_one_request(server: Files) -> None:
    """Heads of 30 blocks with 60 KB of positions between them."""
    server.content["/md.son"] = build(seal=False, n_atoms=MANY)
    with stepson.open(server.url + "md.son") as traj:
        server.reset()
        energies = np.concatenate([b["energy"] for b in traj.stream("energy")])
        assert np.array_equal(energies, np.arange(0.0, 600.0, 2.0))
        assert len(server.asked) <= 8


def test_a_stream_reads_ahead(server: Files, large: Path) -> None:
    """Several requests are under way at once, none is larger than 8 MiB, none twice."""
    server.content["/md.son"] = large
    server.latency = 0.02
    with stepson.open(server.url + "md.son") as traj:
        server.reset()
        for i, batch in enumerate(traj.stream("positions", frames=128)):
            assert batch["positions"].shape == (128, ATOMS, 3)
            assert batch.steps["positions"][0] == 128 * i
        assert i == 39
        assert server.most_at_once >= 3
        assert max(each.sent for each in server.asked) <= 2**23
        assert server.sent < 1.02 * large.stat().st_size
        assert len(server.asked) < 40
        assert held(traj) <= KEPT + EXPECTED


def held(traj: stepson.Trajectory) -> int:
    source: Any = traj.source
    return int(source._source._spans.held)


def test_frames_in_order_fetch_a_block_once(server: Files, large: Path) -> None:
    server.content["/md.son"] = large
    with stepson.open(server.url + "md.son") as traj:
        server.reset()
        for each, _ in zip(traj, range(3 * 128), strict=False):
            assert each.positions[0, 0] == pytest.approx(each.step // 128, abs=9)
        assert server.sent < 5 * 128 * ATOMS * 12


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 MB of positions of so many atoms that a block has four tiles."""
    path = tmp_path_factory.mktemp("tiled") / "md.son"
    fields = [stepson.Field("positions", "float32", ("atom", 3), "Å", codec="raw")]
    noise = np.random.default_rng(2).normal(size=(32, 40_000, 3)).astype("f4")
    with stepson.create(
        path, fields=fields, numbers=[18] * 40_000, verify=False, commit="manual"
    ) as out:
        for block in range(3):
            steps = np.arange(32 * block, 32 * (block + 1))
            out.extend(steps=steps, positions=noise + np.float32(block))
            out.commit()
    return path


def test_one_atom_through_time(server: Files, tiled: Path) -> None:
    """Tiles of other atoms are not read; the result is that of a local file."""
    server.content["/md.son"] = tiled
    server.latency = 0.02
    with stepson.open(tiled) as local, stepson.open(server.url + "md.son") as traj:
        expected = local["positions"][:]
        server.reset()
        assert np.array_equal(traj["positions"][:, 20_000], expected[:, 20_000])
        assert server.most_at_once >= 2
        assert server.sent < 0.4 * tiled.stat().st_size
        assert len(server.asked) <= 8


@pytest.mark.parametrize(
    "key",
    [
        *[(slice(None), 5), (slice(3, 9), -1), (4, 2), (4, 2, 1), (slice(None), 3, 0)],
        *[(slice(None, None, -2), 6), ([3, 1], 0), (..., 2), (slice(None), ..., 2)],
        *[(slice(None), np.int64(3)), (slice(None), slice(5, 2)), (2, [1, 2])],
    ],
)
def test_one_atom_as_numpy_has_it(key: Any) -> None:
    with stepson.open(stepson_bytes(build(BLOCKS, n_atoms=7))) as traj:
        column = traj["positions"]
        assert np.array_equal(column[key], column[:][key])
        with pytest.raises(IndexError, match="atom 7 of 7"):
            column[:, 7]


@pytest.mark.parametrize("content", [SEALED, MIDDLE], ids=["small", "middle"])
@pytest.mark.parametrize("fault", ["less", "front", "long", "shifted"])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_a_part_of_the_end_is_not_the_end(
    server: Files, fault: str, content: bytes, told: bool, times: int
) -> None:
    """What a server leaves out, as it may, is asked for again; no frame is lost."""
    server.content["/md.son"] = content
    server.size_told = told
    n_atoms = MANY if content is MIDDLE else 3
    for place in range(4):
        server.faults = [""] * place + [fault] * times
        with stepson.open(server.url + "md.son") as traj:
            assert traj.size == len(content)
            assert traj.sealed
            check_content(traj, steps_of(BLOCKS), n_atoms)


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        *[(SEALED, faults) for faults in (["garbled"], ["", "garbled"], ["garbled"] * 2)],
        *[(OPEN, faults) for faults in (["garbled"], ["", "garbled"], ["garbled"] * 2)],
        *[(MIDDLE, faults) for faults in (["garbled"], ["garbled"] * 2)],
    ],
)
def test_ends_broken_on_their_way(server: Files, content: bytes, faults: list[str]) -> None:
    """What looks torn, or like no file at all, is fetched once more."""
    server.content["/md.son"] = content
    server.faults = list(faults)
    with stepson.open(server.url + "md.son") as traj:
        assert server.faults == []
        assert traj.size == len(content)
        assert traj.torn_bytes == 0
        check_content(traj, steps_of(BLOCKS), MANY if content is MIDDLE else 3)


def test_a_broken_end_behind_a_large_block(server: Files) -> None:
    """The COMMIT before the last block lies further back than the end that is fetched.

    Either end may be the one that is asked for first: many files.
    """
    for _ in range(30):
        content = build(n_atoms=MANY)
        server.content["/md.son"] = content
        server.faults = ["garbled"]
        with stepson.open(server.url + "md.son") as traj:
            assert (traj.size, traj.torn_bytes) == (len(content), 0)
            assert traj.sealed


def test_a_file_that_is_replaced_while_it_is_read(server: Files) -> None:
    """Blocks of a replica stand at the same places, and their checksums are right."""
    other = build(n_atoms=MANY)
    assert (len(other), other[5000:9000]) == (len(MIDDLE), MIDDLE[5000:9000])
    server.content["/md.son"] = MIDDLE
    with stepson.open(server.url + "md.son") as traj:
        assert len(traj) == len(steps_of(BLOCKS))
        server.content["/md.son"] = other
        with pytest.raises(RemoteError, match="another file has taken its place"):
            traj["positions"][:]


@pytest.mark.parametrize("told", ["", "bytes */50"])
def test_an_end_that_is_refused_is_no_empty_file(told: str) -> None:
    def answer(told: str) -> Any:
        return SimpleNamespace(status=416, headers={"Content-Range": told})

    http = Http(fsspec.filesystem("http"), "http://a/md.son")
    with pytest.raises(Passing, match="refuses bytes that the file has"):
        http._check(answer(told), -1, 100)
    assert http._check(answer("bytes */0"), -1, 100) == (0, 0, 0)


def test_a_message_of_several_lines_is_one() -> None:
    error = RemoteError("http://a", "400, message:\n  cannot be decoded", offset=3)
    assert str(error) == "http://a: 400, message: cannot be decoded (at byte 3)"


@pytest.mark.parametrize("before", [0, 1])
def test_a_broken_transaction_before_a_torn_end(server: Files, before: int) -> None:
    """That the end came twice the same says nothing of the transaction in front of it."""
    sink, size = Memory(), 10**6
    numbers = {"numbers": np.full(size, 18)}
    field = stepson.Field("positions", "float32", ("atom", 3), "Å", codec="raw")
    header, schema = Header(uuid4().bytes, "", "tests"), Schema((field,), size)
    options: Any = {"commit": "manual", "threaded": False}
    writer = start(sink, Path("md.son"), header, schema, numbers, **options)
    for step in range(before + 1):
        writer.append(step, positions=np.zeros((size, 3), "f4"))
        writer.commit()
    server.content["/md.son"] = sink.data + np.random.default_rng(0).bytes(400_000)
    for place in range(6):
        server.faults = [""] * place + ["garbled"]
        with warnings.catch_warnings():  # the first look may tell of damage
            warnings.simplefilter("ignore", stepson.DamageWarning)
            with stepson.open(server.url + "md.son") as traj:
                assert (len(traj), traj.torn_bytes) == (before + 1, 400_000)


def test_requests_of_following_behind_a_torn_tail(server: Files) -> None:
    """A look at a run in progress costs what opening its file does."""
    server.content["/md.son"] = OPEN + np.random.default_rng(0).bytes(10**6)
    with stepson.open(server.url + "md.son", follow=True) as following:
        assert len(server.asked) <= 4
        assert following.trajectory.torn_bytes == 10**6


@pytest.mark.parametrize("told", [True, False])
def test_a_server_that_always_sends_less(server: Files, told: bool) -> None:
    server.content["/md.son"] = MIDDLE
    server.size_told = told
    server.always = "less"
    with pytest.raises(RemoteError, match=r"tried 4 times"):
        stepson.open(server.url + "md.son")


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "short", "less"])
def test_passing_faults_are_outlived(server: Files, fault: str) -> None:
    server.content["/md.son"] = MIDDLE
    server.faults = [fault, fault, fault]
    with stepson.open(server.url + "md.son") as traj:
        server.faults = [fault, fault]
        check_content(traj, steps_of(BLOCKS), MANY)
        assert server.faults == []


@pytest.mark.parametrize("fault", ["500", "reset", "short", "less"])
def test_lasting_faults_end(server: Files, fault: str) -> None:
    server.content["/md.son"] = MIDDLE
    with stepson.open(server.url + "md.son") as traj:
        server.always = fault
        server.reset()
        with pytest.raises(
            RemoteError, match=r"md\.son: .*tried 4 times.*at byte \d+"
        ) as e:
            traj["positions"][:]
        assert e.value.url == server.url + "md.son"
        assert e.value.offset is not None
        assert len(server.asked) <= 16  # aiohttp asks again by itself, too
        server.always = ""
        check_content(traj, steps_of(BLOCKS), MANY)


def test_silence_ends(server: Files) -> None:
    server.content["/md.son"] = SEALED
    server.always = "silent"
    timeout = aiohttp.ClientTimeout(sock_read=0.05)
    with pytest.raises(RemoteError, match=r"timed out \(tried 4 times\)"):
        stepson.open(
            server.url + "md.son", storage_options={"client_kwargs": {"timeout": timeout}}
        )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("403", "access is refused .*pass credentials.*storage_options"),
        ("401", "access is refused"),
        ("404", "there is no such file"),
        ("400", "answers 400"),
    ],
)
def test_refusals_are_final(server: Files, status: str, words: str) -> None:
    server.content["/md.son"] = SEALED
    server.always = status
    with pytest.raises(RemoteError, match=words):
        stepson.open(server.url + "md.son")
    assert len(server.asked) <= 3


def test_a_server_without_ranges(server: Files, tmp_path: Path) -> None:
    """It would send a gigabyte; a connection's buffer is all that is taken."""
    path = tmp_path / "md.son"
    path.write_bytes(SEALED)
    with path.open("r+b") as file:
        file.truncate(2**30)
    server.content["/md.son"] = path
    server.ranges = False
    with pytest.raises(RemoteError, match=r"knows no range requests.*1,073,741,824 bytes"):
        stepson.open(server.url + "md.son")
    assert server.sent < 2**24


@pytest.mark.parametrize("size_told", [True, False])
def test_a_server_without_suffixes(server: Files, size_told: bool) -> None:
    """Where the size is not told either, that of a short file still shows."""
    server.suffixes = False
    server.size_told = size_told
    server.content["/md.son"] = MIDDLE
    if not size_told:
        with pytest.raises(RemoteError, match="does not tell the size"):
            stepson.open(server.url + "md.son")
    server.content["/md.son"] = SEALED
    with stepson.open(server.url + "md.son") as traj:
        check_content(traj, steps_of(BLOCKS))


def test_the_size_follows_from_the_last_commit(server: Files) -> None:
    data = MIDDLE[: MIDDLE.rfind(b"\xd5SON")] + bytes(1000)
    server.content["/md.son"] = data
    server.size_told = False
    with stepson.open(server.url + "md.son") as traj:
        assert traj.size == len(data)
        assert len(server.asked) <= 6
        assert traj.torn_bytes == 1000


@pytest.mark.parametrize("etag", [True, False])
def test_growth_while_reading(server: Files, etag: bool) -> None:
    """What was committed never changes."""
    server.etag = etag
    sink = OPEN
    server.content["/md.son"] = build(n_atoms=MANY, seal=False)
    first = server.content["/md.son"]
    assert isinstance(first, bytes)
    with stepson.open(server.url + "md.son") as traj:
        server.content["/md.son"] = first + sink
        check_content(traj, steps_of(BLOCKS), MANY)
        assert traj.size == len(first)


@pytest.mark.parametrize("etag", [True, False])
def test_a_replaced_file_is_noticed(server: Files, etag: bool) -> None:
    server.etag = etag
    server.content["/md.son"] = MIDDLE
    with stepson.open(server.url + "md.son") as traj:
        server.content["/md.son"] = build(n_atoms=MANY + 50)
        with pytest.raises(RemoteError, match="another file has taken its place"):
            traj["positions"][:]


def test_other_bytes_than_asked_for(server: Files) -> None:
    server.content["/md.son"] = MIDDLE
    with stepson.open(server.url + "md.son") as traj:
        server.always = "shifted"
        with pytest.raises(RemoteError, match="sends other bytes than asked for"):
            traj["positions"][:]


def test_bytes_broken_on_their_way(server: Files) -> None:
    """A chunk that does not verify is fetched once more."""
    server.content["/md.son"] = MIDDLE
    with stepson.open(server.url + "md.son") as traj:
        server.faults = ["garbled"]
        check_content(traj, steps_of(BLOCKS), MANY)
        assert server.faults == []


@pytest.mark.parametrize("deep", [False, True])
def test_what_cannot_be_fetched_is_no_damage(server: Files, deep: bool) -> None:
    """Neither in verify nor anywhere that falls back on another copy."""
    server.content["/md.son"] = MIDDLE
    with stepson.open(server.url + "md.son") as traj:
        assert traj.verify(deep=deep).ok
    with stepson.open(server.url + "md.son") as traj:
        server.always = "500"
        with pytest.raises(RemoteError, match="answers 500"):
            traj.verify(deep=deep)


def test_verify_reads_a_file_in_few_requests(server: Files, large: Path) -> None:
    server.content["/md.son"] = large
    with stepson.open(server.url + "md.son") as traj:
        server.reset()
        assert traj.verify().ok
        assert server.sent < 1.1 * large.stat().st_size
        assert len(server.asked) < 60


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 MiB, more than is kept, in a commit for each frame of 240 kB."""
    path = tmp_path_factory.mktemp("dense") / "md.son"
    fields = [stepson.Field("positions", "float32", ("atom", 3), "Å", codec="raw")]
    noise = np.random.default_rng(1).normal(size=(20_000, 3)).astype("f4")
    options: Any = {"verify": False, "commit": "manual"}
    with stepson.create(path, fields=fields, numbers=[18] * 20_000, **options) as out:
        for step in range(300):
            out.append(step, positions=noise + np.float32(step))
            out.commit()
    return path


def test_verify_asks_by_size_and_not_by_commit(server: Files, dense: Path) -> None:
    """16 requests; one for each of the 302 commits would be as many and more."""
    server.content["/md.son"] = dense
    size = dense.stat().st_size
    assert size > KEPT
    with stepson.open(server.url + "md.son") as traj:
        server.reset()
        reached: list[int] = []
        found = traj.verify(on_progress=lambda done, total: reached.append(done))
        assert found.ok
        assert found.commits == 302
        assert len(server.asked) <= 2 + size / 2**22
        assert server.sent < 1.02 * size
        assert reached == sorted(reached)
        assert reached[-1] == size


def damaged(path: Path, folder: Path) -> Path:
    """A copy with a byte flipped in a head, in a chunk and in a COMMIT."""
    data = bytearray(path.read_bytes())
    with stepson.open(path) as traj:
        for frame_, place in ((40, 40), (100, 5000), (200, 240_350 // 64 * 64)):
            data[traj.reader.unit_of_frame(frame_).offset + place] ^= 1
    found = folder / "damaged.son"
    found.write_bytes(data)
    return found


def told(done: Recovery) -> dict[str, Any]:
    return {k: v for k, v in done.to_map().items() if k not in ("source", "target")}


def test_recover_by_url(server: Files, dense: Path, tmp_path: Path) -> None:
    """The same as from the file itself; requests by size, not by commit."""
    bad = damaged(dense, tmp_path)
    local = stepson.recover(bad, tmp_path / "local.son")
    assert not local.complete
    server.content["/md.son"] = bad
    done = stepson.recover(server.url + "md.son", tmp_path / "far.son")
    size = bad.stat().st_size
    assert len(server.asked) <= 8 + 3 * size / 2**22
    assert server.sent < 3.1 * size
    assert told(done) == told(local)
    assert done.source == server.url + "md.son"
    with (
        stepson.open(tmp_path / "far.son") as far,
        stepson.open(tmp_path / "local.son") as near,
    ):
        assert far.verify(deep=True).ok
        assert np.array_equal(far.steps[:], near.steps[:])
        assert np.array_equal(far["positions"][:], near["positions"][:])
        assert far.metadata["recovered"]["source"] == server.url + "md.son"


def test_recover_by_url_with_another_one(server: Files, tmp_path: Path) -> None:
    """SCHEMA of a file behind a URL; on any file system of fsspec."""
    with stepson.open(stepson_bytes(MIDDLE)) as traj:
        place = traj.opened.tail.commit.schema + 40
    url = stepson_bytes(MIDDLE[:place] + bytes([MIDDLE[place] ^ 1]) + MIDDLE[place + 1 :])
    with pytest.raises(DamagedError, match=r"SCHEMA.*--like OTHER"):
        stepson.recover(url, tmp_path / "out.son")
    server.content["/like.son"] = MIDDLE
    done = stepson.recover(url, tmp_path / "out.son", like=server.url + "like.son")
    assert done.complete
    assert done.borrowed == ("SCHEMA",)
    with stepson.open(tmp_path / "out.son") as traj:
        check_content(traj, steps_of(BLOCKS), MANY)


def test_recover_by_url_says_what_is_wrong(server: Files, tmp_path: Path) -> None:
    out = tmp_path / "out.son"
    server.content["/md.son"] = MIDDLE
    url = server.url + "md.son"
    with pytest.raises(WriterError, match=r"s3://b/x\.son is a URL; give a local file"):
        stepson.recover(url, "s3://b/x.son")
    with pytest.raises(RemoteError, match="there is no such file"):
        stepson.recover(server.url + "none.son", out)
    with pytest.raises(RemoteError, match="check storage_options"):
        stepson.recover(url, out, storage_options={"foo": 1})
    with pytest.raises(SchemaError, match="storage_options are for URLs"):
        stepson.recover(tmp_path / "md.son", out, storage_options={})
    server.ranges = False
    with pytest.raises(RemoteError, match=r"no range requests.*download the file"):
        stepson.recover(url, out)
    server.ranges = True
    server.faults = ["", "", *["500"] * 40]
    with pytest.raises(RemoteError, match="answers 500"):
        stepson.recover(url, out)
    assert not list(tmp_path.iterdir())


def test_damage_is_damage(server: Files) -> None:
    data = MIDDLE
    with stepson.open(stepson_bytes(data)) as local:
        unit = local.reader.unit_of_frame(100)
        place = next(local.reader.block(unit).ranges("positions"))[0]
    server.content["/md.son"] = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    with stepson.open(server.url + "md.son") as traj:
        with pytest.raises(DamagedError, match="positions"):
            traj["positions"][:]
        assert traj["energy"][50] == 100.0


def stepson_bytes(data: bytes) -> str:
    """Data under a memory:// URL."""
    name = f"memory://{uuid4().hex}.son"
    with fsspec.open(name, "wb") as file:
        file.write(data)
    return name


def test_other_file_systems(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    path.write_bytes(SEALED)
    for url in (stepson_bytes(SEALED), stepson_bytes(OPEN), f"file://{path}"):
        with stepson.open(url) as traj:
            check_content(traj, steps_of(BLOCKS))
            assert traj.verify(deep=True).ok
            assert str(traj.path) == url


def test_empty_and_foreign_files(server: Files) -> None:
    server.content.update({"/empty": b"", "/page": b"<html>" * 10**5, "/short": b"\x89SON"})
    with pytest.raises(FormatError, match="empty"):
        stepson.open(server.url + "empty")
    with pytest.raises(FormatError, match=r"page: not a \.son file"):
        stepson.open(server.url + "page")
    with pytest.raises(FormatError, match="too short"):
        stepson.open(server.url + "short")


def test_misuse(tmp_path: Path) -> None:
    with pytest.raises(WriterError, match="is a URL, which cannot be appended to"):
        stepson.open("memory://x.son", "a")
    with pytest.raises(WriterError, match="is a URL, which cannot be created"):
        stepson.create("s3://b/x.son", fields=FIELDS, numbers=[18])
    with pytest.raises(RemoteError, match="Protocol not known: nonsense"):
        stepson.open("nonsense://x.son")
    with pytest.raises(RemoteError, match="no such file"):
        stepson.open("memory://nothing.son")
    with pytest.raises(SchemaError, match="storage_options are for URLs"):
        stepson.open(tmp_path / "x.son", storage_options={})
    with pytest.raises(RemoteError, match="cannot be opened"):
        stepson.open("zip://x.son", storage_options={"nonsense": 1})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://h:port/x.son", "no valid URL"),
        ("http://[::1/x.son", "no valid URL"),
        ("http://\ud800/x.son", "no valid URL"),
        ("http:///x.son", "no valid URL"),
        ("http://h/", r"a folder; http://h/\*\.son means"),
        ("http://h:port/*.son", "cannot be listed.*check"),
        ("data://x", "check the URL"),
        ("data://*", "cannot be listed.*check"),
        ("memory://here", r"a folder; memory://here/\*\.son means"),
        ("memory://here/", r"a folder; memory://here/\*\.son means"),
        ("memory://there", "no such file"),
        ("file:///", "is a folder"),
    ],
)
def test_urls_that_are_none(url: str, words: str) -> None:
    with fsspec.open("memory://here/x.son", "wb") as file:
        file.write(SEALED)
    with pytest.raises(StepsonError, match=words) as caught:
        stepson.open(url)
    assert "\n" not in str(caught.value)


def test_options_that_are_none(server: Files) -> None:
    server.content["/md.son"] = SEALED
    with pytest.raises(RemoteError, match=r"'foo'; check storage_options"):
        stepson.open(server.url + "md.son", storage_options={"foo": 1})
    with pytest.raises(RemoteError, match=r"'foo'.*check URL and storage_options"):
        stepson.open(server.url + "*.son", storage_options={"foo": 1})


def test_a_url_as_a_path() -> None:
    with pytest.raises(FormatError, match="give a URL as text, not as a Path"):
        stepson.open(Path("http://h/x.son"))


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("name", ["a\0b.son", "\ud800.son", "a" * 5000])
def test_names_that_no_file_can_have(name: str, mode: Any) -> None:
    with pytest.raises(StepsonError, match=r"is no name of a file|File name too long"):
        stepson.open(name, mode)


def test_pipes_and_devices(tmp_path: Path) -> None:
    """Nothing waits for them; a folder or a glob leaves them out."""
    pipe = tmp_path / "pipe.son"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero"):
        for options in ({}, {"mode": "a"}, {"follow": True}):
            with pytest.raises(FormatError, match="no regular file but a pipe or a device"):
                stepson.open(path, **options)
    (tmp_path / "md.son").write_bytes(SEALED)
    for many in (tmp_path, tmp_path / "*.son"):
        with pytest.warns(SeriesWarning, match=r"left out: .*pipe\.son is no regular file"):
            check_content(stepson.open(many), steps_of(BLOCKS))


def test_several_threads(server: Files) -> None:
    server.content["/md.son"] = MIDDLE
    with stepson.open(server.url + "md.son") as traj, ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: check_content(traj, steps_of(BLOCKS), MANY), range(4)):
            pass


class Plain:
    """A transport of bytes at hand."""

    url = "plain://"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def fetch(self, start: int, length: int) -> Reply:
        self.asked.append((start, length))
        found = self.data[-length:] if start < 0 else self.data[start : start + length]
        return Reply(found, len(self.data), None)

    def size(self) -> int:
        return len(self.data)


class Garbling(Plain):
    """The next answers from the start on have other bytes."""

    faults = 0

    def fetch(self, start: int, length: int) -> Reply:
        found = super().fetch(start, length)
        if start != 0 or not self.faults:
            return found
        self.faults -= 1
        return found._replace(data=bytes(byte ^ 1 for byte in found.data))


def test_a_start_broken_on_its_way_is_no_other_file() -> None:
    transport = Garbling(SEALED)
    file = RemoteFile(transport)
    transport.faults = 2
    file.look()
    assert transport.faults == 0
    assert file.read_at(0, 5000) == SEALED[:5000]
    transport.data = build()
    with pytest.raises(RemoteError, match="another file has taken its place"):
        file.look()


class Breaking(Plain):
    """One byte of the first answer from the end is another one."""

    def __init__(self, data: bytes, place: int) -> None:
        super().__init__(data)
        self.place: int | None = place

    def fetch(self, start: int, length: int) -> Reply:
        found = super().fetch(start, length)
        if start >= 0 or self.place is None:
            return found
        data = bytearray(found.data)
        data[-self.place] ^= 1
        self.place = None
        return found._replace(data=bytes(data))


@pytest.mark.parametrize("place", [10, 250, 300, 1000, 250_000])
@pytest.mark.parametrize("expected", [2**16, 2**19, EXPECTED])
def test_one_byte_of_the_end_broken_on_its_way(
    place: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of the last transaction was fetched when it turns out not to verify."""
    monkeypatch.setattr(remote_file, "EXPECTED", expected)
    data = build([range(20), range(20, 420)], seal=False, n_atoms=MANY)
    transport = Breaking(data, place)
    found = open_source(RemoteFile(transport))
    assert transport.place is None
    assert (found.torn_bytes, found.tail.commit.frames) == (0, 210)


NOISE = np.random.default_rng(0).bytes(20_000)
PLACES = st.tuples(st.integers(0, 21_000), st.integers(0, 5_000))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("reflb"), st.lists(PLACES, min_size=1))))
def test_any_order_of_reads(actions: list[tuple[str, list[tuple[int, int]]]]) -> None:
    """Whatever is expected, read, forgotten and dropped, reads are right and bounded."""
    with pytest.MonkeyPatch.context() as patch:
        names = ("START", "TAIL", "GAP", "LARGEST", "SMALLEST", "KEPT", "EXPECTED")
        for name, value in zip(names, (300, 700, 100, 1500, 200, 6000, 4000), strict=True):
            patch.setattr(remote_file, name, value)
        patch.setattr(remote_file, "BACKWARDS", (1500, 1500))
        transport = Plain(NOISE)
        file = RemoteFile(transport)
        for action, ranges in actions:
            if action == "e":
                file.expect(ranges)
            elif action == "f":
                file.forget()
            else:
                for offset, length in ranges:
                    assert file.read_at(offset, length) == NOISE[offset : offset + length]
            assert file._spans.held <= 6000 + 5000 + 1500
            assert file._spans.held == sum(s.stop - s.start for s in file._spans)
        assert max(length for _, length in transport.asked) <= 1500
        file.close()


def test_fsspec_is_imported_at_first_use() -> None:
    code = (
        "import stepson, sys; sys.exit('fsspec' in sys.modules or 'asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_error_is_ours(server: Files) -> None:
    """Nothing else comes out, and each is one line with the URL in front."""
    server.content["/md.son"] = SEALED
    for fault in ("400", "403", "404", "500", "reset", "short", "501", "garbled"):
        server.always = fault
        with pytest.raises(StepsonError) as caught:
            stepson.open(server.url + "md.son")
        assert str(caught.value).startswith(server.url + "md.son: ")
        assert "\n" not in str(caught.value)


def pair(server: Files, told: int, *, found: bool = False, commits: int = 800) -> list[str]:
    """A parent with many commits and a child that names one, or none, of them."""
    sink, digests = Memory(), []
    header = Header(uuid4().bytes, "", "tests")
    schema = Schema(FIELDS[1:], 3)
    content = {"numbers": np.array([18] * 3), "timestep": 4.0}
    options: Any = {"commit": "manual", "threaded": False}
    writer = start(sink, Path("a.son"), header, schema, content, **options)
    for step in range(0, 2 * commits, 2):
        values = frame(step)
        values.pop("positions", None)
        writer.append(step, **values)
        writer.commit()
        digests.append(writer.digest)
    writer.close()
    digest = digests[commits // 4] if found else "0" * 64
    parent = {"uuid": header.uuid.hex(), "digest": digest, "step": told}
    child = Memory()
    header = Header(uuid4().bytes, "", "tests", parent=parent)
    writer = start(child, Path("b.son"), header, schema, content, **options)
    values = frame(told + 10)
    values.pop("positions", None)
    writer.append(told + 10, **values)
    writer.close()
    server.content.update({"/a.son": sink.data, "/b.son": child.data})
    return [server.url + "a.son", server.url + "b.son"]


@pytest.mark.parametrize(
    ("told", "found", "words"),
    [
        (1700, False, r"a\.son is not what .*b\.son continued"),
        (40, False, r"a\.son is not what .*b\.son continued"),
        (40, True, ""),
        (400, True, ""),
    ],
)
def test_an_older_copy_is_told_in_few_requests(
    server: Files, told: int, found: bool, words: str
) -> None:
    urls = pair(server, told, found=found)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stepson.open(urls).close()
    assert len(server.asked) <= 20
    said_so = [
        each for each in said if re.search(r"is not what|confirmed", str(each.message))
    ]
    assert bool(said_so) == bool(words)
    assert all(re.search(words, str(each.message)) for each in said_so)


def test_what_would_take_long_is_not_confirmed(
    server: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepson.series.lineage.PIECE", 2**16)
    urls = pair(server, 40)
    with pytest.warns(SeriesWarning, match="cannot be confirmed"):
        stepson.open(urls).close()
    assert len(server.asked) <= 16


def chain(server: Files, count: int) -> list[str]:
    """Files that continue one another; their URLs."""
    parent: dict[str, Any] | None = None
    for number in range(count):
        sink, uuid = Memory(), uuid4().bytes
        header = Header(uuid, "", "tests", parent=parent)
        content = {"numbers": np.array([18] * 3), "timestep": 4.0}
        schema = Schema(FIELDS, 3)
        writer = start(sink, Path("md.son"), header, schema, content, threaded=False)
        for step in range(40 * number, 40 * number + 40, 2):
            writer.append(step, **frame(step))
        writer.close()
        last = 40 * number + 38
        parent = {"uuid": uuid.hex(), "digest": writer.digest, "step": last}
        server.content[f"/{number}.son"] = sink.data
    return [f"{server.url}{number}.son" for number in range(count)]


def test_several_urls_are_opened_at_once(server: Files) -> None:
    urls = chain(server, 6)
    server.latency = 0.02
    with stepson.open(urls, join=True) as traj:
        assert server.most_at_once >= 4
        check_content(traj, list(range(0, 240, 2)))
    with pytest.raises(RemoteError, match=r"nothing\.son: there is no such file"):
        stepson.open([*urls, server.url + "nothing.son"])


def test_several_urls_stay_open(server: Files) -> None:
    """Reading here and there does not open them again and again."""
    urls = chain(server, 6)
    with stepson.open(urls) as traj:
        for number in range(0, 120, 20):
            assert traj["energy"][number] == 2.0 * number
        server.reset()
        for number in (*range(3, 120, 20), *range(9, 120, 20)):
            assert traj["energy"][number] == 2.0 * number
        assert not [each for each in server.asked if each.span.startswith("bytes=-")]
