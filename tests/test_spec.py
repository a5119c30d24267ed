"""The specification against the library: tables, and rules that a writer never breaks."""

import importlib.util
import re
import subprocess
from mmap import ACCESS_READ, mmap
from pathlib import Path
from shutil import which
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c

import stepson
from stepson import Field, chunk
from stepson.codecs import CODECS
from stepson.conformance.vectors import cases, default_folder
from stepson.encoder import Encoder
from stepson.errors import FormatError
from stepson.opening import Header, open_source
from stepson.records import RecordType
from stepson.schema import DTYPES, Schema
from stepson.source import Bytes
from tests import naive_reader
from tests.stepson.files import create, records, write

SPEC = Path(__file__).parents[1] / "spec"
TEXT = (SPEC / "son-1.md").read_text()
REGISTRY = (SPEC / "registry.md").read_text()


def section(title: str, text: str = TEXT) -> str:
    """A section, without those below it."""
    found = re.search(rf"^#+ {re.escape(title)}.*?(?=^#|\Z)", text, re.M | re.S)
    assert found is not None, title
    return found[0]


def tables(title: str, text: str = TEXT) -> list[list[list[str]]]:
    """The tables of a section: rows of cells, without their heads."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", section(title, text), re.M)
    return [
        [[cell.strip() for cell in row.strip("|").split(" | ")] for row in t.splitlines()][
            2:
        ]
        for t in found
    ]


def keys(title: str, number: int = 0) -> set[str]:
    """The first column of a table."""
    cells = (row[0].strip("| ") for row in tables(title)[number])
    return {name for cell in cells for name in cell.split(", ") if name != "codec ..."}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("spec") / "md.son"
    write(path, [range(20), range(20, 40)], seal=False)
    with stepson.open(path, "a", threaded=False):
        pass
    return path.read_bytes()


def maps(data: bytes, kind: RecordType) -> list[dict[str, Any]]:
    """The maps of all records of a type."""
    return [r.map for r in records(data) if r.prefix.type == kind]


def test_types_of_records() -> None:
    rows = tables("2.2 Records")[1]
    listed = {row[1]: int(row[0].strip("| ")) for row in rows if row[1].isupper()}
    assert listed == {kind.name: kind.value for kind in RecordType}


def test_fields_of_a_commit_follow_one_another() -> None:
    rows = [[cell.strip("| ") for cell in row] for row in tables("2.9 COMMIT")[0]]
    places = [[int(n) for n in row[0].split("-")] for row in rows]
    assert [a for a, _ in places] == [0, *(b + 1 for _, b in places[:-1])]
    assert places[-1][1] == 255
    sizes = {"u64": 8, "u32": 4}
    wide = [b - a + 1 for a, b in places]
    assert all(n == sizes.get(row[1], n) for n, row in zip(wide, rows, strict=True))
    names = [row[2] for row in rows if row[2].isalpha() and row[2] != "uuid"]
    assert [*names, "digest"] == list(naive_reader.Commit._fields)


def test_keys_are_those_that_are_written(data: bytes) -> None:
    assert all(set(m) == keys("2.3") for m in maps(data, RecordType.HEADER))
    for schema in maps(data, RecordType.SCHEMA):
        assert set(schema) == keys("2.4")
        assert all(set(field) == keys("2.4", 1) for field in schema["fields"])
    place = {"offset", "dtype", "shape"}
    info = keys("5 Chunks") - {"error"}
    for tree in maps(data, RecordType.CHECKPOINT):
        assert set(tree) == keys("2.5")
        assert all(set(each) == place | info for each in tree["chunks"])
    assert {*maps(data, RecordType.METADATA)[0]} == keys("2.5") - {"step"}
    blocks = maps(data, RecordType.BLOCK) + maps(data, RecordType.SCALARS)
    assert blocks
    for block in blocks:
        assert set(block) == keys("2.6")
        for each in block["chunks"]:
            assert set(each) | {"atoms"} == keys("2.6", 1) | info
    for table in maps(data, RecordType.TABLE):
        assert set(table) == keys("2.7")
        assert set(table["entries"]) == keys("2.7", 1)
    assert maps(data, RecordType.INDEX)
    assert all(set(m) == keys("2.8") for m in maps(data, RecordType.INDEX))
    assert all(set(m) == keys("2.10") for m in maps(data, RecordType.FOOTER))
    noted = section("2.11").split("`")[1::2]
    assert all(set(m) == set(noted) for m in maps(data, RecordType.NOTE))


def test_dtypes() -> None:
    (row,) = [row for row in tables("2.4")[1] if "dtype" in row[0]]
    assert all(name in row[2] or name.strip("u")[:3] == "int" for name in DTYPES)
    assert set(DTYPES) == set(naive_reader.DTYPES)


def test_codecs_and_their_parameters() -> None:
    rows = tables("Registry", REGISTRY)[0]
    listed = {row[0].strip("| "): row[2].strip("| ") for row in rows}
    assert set(listed) == set(CODECS) == set(naive_reader.CODECS)
    common = {"coder": "lz4", "filter": "none", "level": 1, "layout": "frames"}
    for name, parameters in listed.items():
        plan = chunk.Plan(name, {**common, "k": 1, "taps": [65536]})
        bound = 0.1 if name == "bounded" else None
        made = chunk.encode(np.ones((3, 2), "f4"), plan, precision=bound)
        assert set(made.info["params"]) == set(filter(None, parameters.split(", ")))
        assert set(made.info) | {"error"} == keys("5 Chunks")


@pytest.mark.parametrize("key", sorted(keys("2.4", 1)))
def test_a_field_has_all_its_keys(data: bytes, key: str) -> None:
    (stored,) = maps(data, RecordType.SCHEMA)
    assert Schema.from_map(stored, 0).n_atoms == stored["n_atoms"]
    del stored["fields"][1][key]
    with pytest.raises(FormatError, match="SCHEMA"):
        Schema.from_map(stored, 0)
    with pytest.raises(naive_reader.Refused, match="keys"):
        naive_reader.checked(stored)


@pytest.mark.parametrize("key", ["uuid", "compatible", "read_compatible", "incompatible"])
def test_a_header_has_its_uuid_and_features(data: bytes, key: str) -> None:
    (stored,) = maps(data, RecordType.HEADER)
    assert Header.from_map(stored, 64).to_map() == stored
    with pytest.raises(FormatError, match="HEADER"):
        Header.from_map({k: v for k, v in stored.items() if k != key}, 64)


class Hole(Encoder):
    """Writes the first half of the samples twice, and not the second."""

    def pack(self, samples: Any) -> tuple[dict[str, Any], list[bytes]]:
        content, _ = super().pack(samples)
        made = chunk.encode(samples.values["x"][:4], chunk.Plan("raw"))
        place = {"field": 0, "first": 0, "count": 4, "atoms": [0, 3], "offset": 0}
        return {**content, "chunks": [{**place, **made.info}] * 2}, [made.data]


def test_what_no_chunk_covers_is_not_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepson.transaction.Encoder", Hole)
    path = tmp_path / "md.son"
    fields = [Field("x", "float64", ("atom", 3), "")]
    writer = create(path, fields=fields, commit="manual", threaded=False)
    for step in range(8):
        writer.append(step, x=np.full((3, 3), float(step)))
    writer.commit()
    writer.abandon()
    with pytest.raises(naive_reader.Refused, match="overlap"):
        naive_reader.read(path)
    with stepson.open(path) as traj, pytest.raises(FormatError, match="list of chunks"):
        traj["x"][:]


def test_a_commit_has_the_length_of_a_commit(data: bytes) -> None:
    place = data.rindex(b"\xd5SON\x06\x00")
    longer = bytearray(data[place : place + 256])
    longer[13] = 1
    head = bytes(longer[:28])
    longer[28:32] = crc32c(head).to_bytes(4, "little")
    longer[252:] = crc32c(bytes(longer[:252])).to_bytes(4, "little")
    data, changed = data[: place + 256], data[:place] + bytes(longer)
    whole, less = (open_source(Bytes(d)).tail.commit for d in (data, changed))
    assert less.commits == whole.commits - 1


# Rows of the table in the registry, each with a value that must be refused.
HEADER_LIES = [
    (2, 0x90),
    (2, 0xD5),
    (2, 0x15),
    (3, 8),
    (4, 0),
    (7, 128),
    (12, 1),
    (15, 128),
]
HEADER_LIES += [(16, 3), (17, 1), (21, 2), (22, 0), (22, 4), (23, 1), (24, 1), (29, 1)]
HEADER_LIES += [(30, 1), (31, 8), (31, 32), (31, 64), (31, 1)]


@pytest.mark.parametrize(("place", "value"), HEADER_LIES)
def test_only_listed_headers_of_blosc2_are_decompressed(
    place: int, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(3000, dtype="i4").reshape(30, 100)
    plan = chunk.Plan("blosc2", {"coder": "zstd", "filter": "none", "level": 1})
    made = chunk.encode(values, plan)
    assert made.data[2] & 0xE7 == 0x85
    changed = made.data[:place] + bytes([value]) + made.data[place + 1 :]
    assert changed != made.data
    info = {**made.info, "crc32c": crc32c(changed)}
    monkeypatch.setattr("blosc2.decompress2", None)
    with pytest.raises(naive_reader.Refused, match="blosc2"):
        naive_reader.expanded(changed, 4, 3000)
    with pytest.raises(FormatError, match="header"):
        chunk.decode(changed, info, dtype="i4", shape=values.shape)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_a_grid_has_a_step(step: float) -> None:
    params = {"coder": "lz4", "filter": "none", "level": 1, "layout": "frames", "taps": []}
    made = chunk.encode(np.ones((3, 2)), chunk.Plan("bounded", params), precision=0.1)
    made.info["params"]["step"] = step
    with pytest.raises(naive_reader.Refused):
        naive_reader.bounded(made.data, np.dtype("f8"), (3, 2), made.info["params"])
    with pytest.raises(FormatError):
        chunk.decode(made.data, made.info, dtype="f8", shape=(3, 2))


COMPILE = """
const fs = require("fs"), path = require("path"), yaml = require("js-yaml");
const [source, folder] = process.argv.slice(1);
const grammar = yaml.load(fs.readFileSync(source, "utf8"));
require("kaitai-struct-compiler").compile("python", grammar, null, false).then((files) => {
  for (const [name, text] of Object.entries(files))
    fs.writeFileSync(path.join(folder, name), text);
}).catch((error) => { console.error(String(error)); process.exit(1); });
"""


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The class that Kaitai's compiler makes of the grammar."""
    pytest.importorskip("kaitaistruct", reason="pip install kaitaistruct")
    folder, source = tmp_path_factory.mktemp("kaitai"), SPEC / "son.ksy"
    if compiler := which("kaitai-struct-compiler"):
        command = [compiler, "-t", "python", "--outdir", str(folder), str(source)]
    elif node := which("node"):
        command = [node, "-e", COMPILE, str(source), str(folder)]
        needed = "for (const n of ['kaitai-struct-compiler', 'js-yaml']) require(n)"
        if subprocess.run([node, "-e", needed], capture_output=True).returncode:
            pytest.skip(
                "no Kaitai compiler: npm install kaitai-struct-compiler js-yaml, and "
                "NODE_PATH=that folder's node_modules"
            )
    else:
        pytest.skip("no Kaitai compiler: neither kaitai-struct-compiler nor node is there")
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("son", folder / "son.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Son


def check_slots(grammar: Any, data: bytes) -> int:
    """Compare the records that the grammar finds with the naive reader; count them."""
    parsed = grammar.from_bytes(data)
    assert parsed.magic.major == 1
    found = 0
    for slot in parsed.slots:
        naive = naive_reader.record(data, slot.start)
        if not slot.is_record:
            assert len(slot.torn) == min(64, len(data) - slot.start)
            assert naive is None
        elif naive is not None:  # else a checksum fails, which the grammar does not look at
            found += 1
            prefix = slot.record.prefix
            assert (prefix.type, slot.start) == (naive.kind, naive.at)
            assert data[slot.start : slot.start + 32] + slot.record.map == naive.head
            assert naive.payload + prefix.len_payload == naive.end
    return found


def check_chain(grammar: Any, path: Path) -> None:
    """Compare the COMMITs that the grammar finds with the naive reader."""
    from kaitaistruct import KaitaiStream

    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        uuid = naive_reader.unpacked(naive_reader.record(data, 64), 1, "HEADER")["uuid"]
        last, *_ = naive_reader.last_commit(data, uuid)
        stream = KaitaiStream(file)
        stream.seek(last.own)
        record = grammar.Record(stream, None, SimpleNamespace(_io=stream))
        for commit in reversed(naive_reader.chain(data, last, uuid)):
            body = record.payload
            numbers = [getattr(body, name) for name in commit._fields[:-1]]
            assert numbers == list(commit[:-1])
            for name in ("schema", "metadata", "table"):
                naive = naive_reader.record(data, getattr(commit, name))
                if naive is not None:  # else damaged, or the first COMMIT: no TABLE
                    found = getattr(body, f"{name}_record")
                    assert found.prefix.type.name == name
                    assert (
                        found.prefix.len_record == naive_reader.padded(naive.end) - naive.at
                    )
            record = body.previous_record if commit.previous else None
        assert record is None


@pytest.mark.peer
def test_grammar_on_a_file_of_the_library(
    grammar: Any, data: bytes, tmp_path: Path
) -> None:
    assert check_slots(grammar, data) == len(list(records(data)))
    path = tmp_path / "md.son"
    path.write_bytes(data)
    check_chain(grammar, path)


@pytest.mark.peer
def test_grammar_on_every_vector(grammar: Any, tmp_path: Path) -> None:
    tried = 0
    for case in cases(default_folder()):
        path = case.place(tmp_path / "md.son")
        try:
            naive_reader.read(path, strict=False)
        except naive_reader.Refused:
            continue
        check_chain(grammar, path)
        if path.stat().st_size < 2**24:
            assert check_slots(grammar, path.read_bytes()) > 3, case
        tried += 1
    assert tried > 500


@pytest.mark.peer
def test_grammar_refuses_what_is_no_file(grammar: Any, data: bytes) -> None:
    from kaitaistruct import KaitaiStructError

    for changed in (b"{" + data[1:], data[:8] + b"\2" + data[9:], data[:40]):
        with pytest.raises((EOFError, KaitaiStructError)):
            grammar.from_bytes(changed)
