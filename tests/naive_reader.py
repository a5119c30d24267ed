"""A plain reader of `.son`, written from `spec/son-1.md` and `spec/registry.md` alone.

The oracle of the tests, and a pattern for readers in other languages. It goes along the
chain of COMMITs and uses no INDEX, SCALARS or TABLE. `python tests/naive_reader.py FILE`
prints what `spec/vectors/README.md` asks for.
"""

import hashlib
import json
import math
import mmap
import struct
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import blosc2
import msgpack
import numpy as np
from crc32c import crc32c

Array = np.ndarray[Any, Any]
Data = bytes | mmap.mmap
HEADER, SCHEMA, METADATA, BLOCK, TABLE, COMMIT, CHECKPOINT = range(1, 8)
FOOTER = 10
DTYPES = ["bool", *(f"float{n}" for n in (16, 32, 64))]
DTYPES += [f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)]
KEYS = {
    *("name", "dtype", "shape", "unit", "every", "offset"),
    "precision",
    "codec",
    "attributes",
}
POLYNOMIALS: tuple[list[int], ...] = (
    [],
    [65536],
    [131072, -65536],
    [196608, -196608, 65536],
)


class Refused(ValueError):
    """What must not be read."""


class Damaged(Refused):
    """A checksum fails in a part that was committed."""


def need(condition: Any, message: str) -> None:
    if not condition:
        raise Refused(message)


# 2.2: records


Record = namedtuple("Record", "at kind head map payload end")


def record(data: Data, at: int) -> Any:
    """The record at `at`; None where no prefix verifies. A map that does not is None."""
    if at < 64 or at % 64 or at + 32 > len(data):
        return None
    prefix = data[at : at + 32]
    magic, kind, _, n_map, n_payload, _, map_crc, crc = struct.unpack("<4sHHIQIII", prefix)
    payload = at + 32 + n_map
    if magic != b"\xd5SON" or crc32c(prefix[:28]) != crc:
        return None
    if n_map > 65535 or padded(payload + n_payload) > len(data):
        return None
    head = data[at:payload]
    text = head[32:] if crc32c(head[32:]) == map_crc else None
    return Record(at, kind, head, text, payload, payload + n_payload)


def padded(offset: int) -> int:
    return -(-offset // 64) * 64


def unpacked(found: Record | None, kind: int, name: str) -> dict[str, Any]:
    if found is None or found.map is None or found.kind != kind:
        raise Damaged(name)
    try:
        keys = msgpack.unpackb(found.map) if found.map else {}
    except Exception as error:
        raise Refused(f"{name}: {error}") from None
    need(
        isinstance(keys, dict) and all(isinstance(key, str) for key in keys),
        f"{name}: no map",
    )
    return dict(keys)


# 2.9, 2.10: COMMIT and FOOTER


Commit = namedtuple(
    "Commit",
    "own start first end frames commits previous index scalars checkpoint before schema"
    " metadata table heads payloads link digest",
)


def commit_at(data: Data, at: int, uuid: bytes) -> Any:
    """The COMMIT at `at` if it verifies."""
    found = record(data, at)
    if found is None or found.kind != COMMIT or found.map != b"" or found.end != at + 256:
        return None
    raw = data[at : at + 256]
    numbers = struct.unpack("<14QII32s", raw[48:200])
    commit = Commit._make((*numbers, hashlib.sha256(raw).digest()))
    good = crc32c(raw[:252]) == int.from_bytes(raw[252:], "little") and raw[32:48] == uuid
    ordered = commit.previous < commit.start and max(commit.start, *commit[7:14]) < at
    ordered = ordered and commit.before <= commit.checkpoint
    ordered = ordered and commit.first <= commit.end < 2**63 and not any(raw[200:252])
    return commit if good and commit.own == at and ordered else None


def footer_end(data: Data, at: int, uuid: bytes) -> int:
    """Where the FOOTER at `at` ends if it verifies, else 0."""
    found = record(data, at)
    if found is None or found.kind != FOOTER or found.map is None:
        return 0
    keys = unpacked(found, FOOTER, "FOOTER")
    right = {"uuid": uuid, "offset": at, "commit": at - 256}
    return padded(found.end) if right.items() <= keys.items() else 0


def transaction(data: Data, commit: Any) -> Iterator[Any]:
    """Its records; None once where prefixes are damaged."""
    at, lost = commit.start, False
    while at < commit.own:
        found = record(data, at)
        if found is None or found.end > commit.own:
            if not lost:
                yield None
            at, lost = at + 64, True
        else:
            yield found
            at, lost = padded(found.end), False


def is_whole(data: Data, commit: Any) -> bool:
    heads = payloads = 0
    for found in transaction(data, commit):
        if found is None or found.map is None:
            return False
        heads = crc32c(found.head, heads)
        payloads = crc32c(data[found.payload : found.end], payloads)
    return (heads, payloads) == (commit.heads, commit.payloads)


# 4: opening


def commit_below(data: Data, end: int, uuid: bytes) -> Any:
    """The last COMMIT below `end` that verifies."""
    found = (commit_at(data, at, uuid) for at in range((end - 1) // 64 * 64, 0, -64))
    return next((commit for commit in found if commit), None)


def last_commit(data: Data, uuid: bytes) -> tuple[Any, bool, int]:
    """The COMMIT that counts, whether the file is sealed, the end of the committed part."""
    top = len(data) // 64 * 64 - 64
    for at in range(top, max(top - 65536 - 64, 0), -64):
        if footer_end(data, at, uuid) == len(data):
            sealed = commit_at(data, at - 256, uuid)
            if sealed is None:
                raise Damaged("the COMMIT in front of FOOTER")
            return sealed, True, len(data)
    named = 0
    commit = commit_below(data, len(data), uuid)
    while commit and commit.own > named and not is_whole(data, commit):
        named = max(named, commit.previous)
        commit = commit_below(data, commit.own, uuid)
    if named and (commit is None or commit.own <= named):
        commit = commit_at(data, named, uuid)
        if commit is None:
            raise Damaged("the COMMIT before a torn transaction")
    if commit is None:
        raise Refused("no COMMIT verifies")
    return commit, False, footer_end(data, commit.own + 256, uuid) or commit.own + 256


def chain(data: Data, last: Any, uuid: bytes) -> list[Any]:
    """All COMMITs, from old to new."""
    found = [last]
    while found[-1].previous:
        later, earlier = found[-1], commit_at(data, found[-1].previous, uuid)
        if earlier is None or earlier.digest != later.link:
            raise Damaged(f"byte {later.previous}: the chain of COMMITs is broken")
        need(earlier.own < later.start and earlier.commits + 1 == later.commits, "COMMIT")
        need(earlier.frames <= later.frames and earlier.end <= later.end, "COMMIT: frames")
        need(earlier[11:13] == later[11:13], "two SCHEMAs or METADATAs")
        found.append(earlier)
    need(
        found[-1].link == bytes(32) and found[-1][1:8] == (64, 0, 0, 0, 1, 0, 0),
        "first COMMIT",
    )
    return found[::-1]


# 5 and registry.md: chunks


def expanded(data: bytes, size: int, count: int) -> bytes:
    """`count` values of `size` bytes from one blosc2 chunk."""
    need(len(data) >= 32, "blosc2: length")
    flags, typesize, raw, _, stored = struct.unpack("<BBiii", data[2:16])
    need((typesize, raw, stored) == (size, size * count, len(data)), "blosc2: header")
    need(flags & 5 == 5 and (flags >> 5 in (1, 4) or flags & 2), "blosc2: format")
    need(data[16] < 3 and not any(data[17:22] + data[23:31]), "blosc2: filters")
    need(data[22] in (1, 5) and data[31] in (0, 16, 48), "blosc2: coder or special values")
    return bytes(blosc2.decompress2(data, nthreads=1))  # starting threads takes longer


def words(data: bytes, size: int, shape: tuple[int, int], layout: str) -> Array:
    """Zigzag words as signed integers, of shape (rows, columns)."""
    need(layout in ("frames", "columns"), "layout")
    word = np.frombuffer(expanded(data, size, shape[0] * shape[1]), f"<u{size}")
    signed = ((word >> 1) ^ (0 - (word & 1))).view(f"<i{size}")
    return (
        signed.reshape(shape) if layout == "frames" else signed.reshape(shape[::-1]).T
    ).copy()


def mapped(bits: Array) -> Array:
    """Step 3 of `delta`; its own inverse."""
    return np.asarray(np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits))


def delta(data: bytes, dtype: Any, shape: tuple[int, int], params: Any) -> Array:
    d = words(data, dtype.itemsize, shape, params["layout"])
    need(params["k"] in range(6), "delta: k")
    for j in reversed(range(params["k"])):
        for t in range(j + 1, shape[0]):
            d[t] += d[t - 1]
    return (mapped(d) if dtype.kind == "f" else d).view(dtype)


def taps(params: Any, t: int) -> list[tuple[int, int]]:
    """The pairs (j, C_j) for row t."""
    own = params["taps"]
    need(
        len(own) <= 12 and all(isinstance(c, int) and abs(c) <= 2**26 for c in own), "taps"
    )
    return list(enumerate(own if t >= len(own) else POLYNOMIALS[min(t, 3)], 1))


def linear(data: bytes, dtype: Any, shape: tuple[int, int], params: Any) -> Array:
    scale = params["scale"]
    need(type(scale) is int, "linear: scale")
    need(
        dtype.name in ("float32", "float64") and scale in range(-100, 101), "linear: params"
    )
    bits = words(data, dtype.itemsize, shape, params["layout"])
    whole = np.zeros(shape)
    for t in range(shape[0]):
        total = np.zeros(shape[1])
        for j, c in taps(params, t):
            total += c * whole[t - j]
        bits[t] += (total / 65536 * 2.0**-scale).astype(dtype).view(bits.dtype)
        whole[t] = np.rint(bits[t].view(dtype) * np.float64(2.0**scale))
    return bits.view(dtype)


def bounded(data: bytes, dtype: Any, shape: tuple[int, int], params: Any) -> Array:
    step, first, n, w = (params[key] for key in ("step", "first", "exceptions", "width"))
    two = len(data) - first - n * (8 + dtype.itemsize)
    three, four = two + first, two + first + 8 * n
    need(dtype.kind == "f" and 0 < step < math.inf and w in (1, 2, 4, 8), "bounded: params")
    need(min(two, first, n) >= 0 and 0 <= params["largest"] <= 2**52, "bounded: params")
    need(shape[0] > 1 or two == 0, "bounded: one row")
    q = words(data[two:three], 8, (1, shape[1]), "frames")
    if shape[0] > 1:
        rest = words(data[:two], w, (shape[0] - 1, shape[1]), params["layout"])
        q = np.concatenate([q, rest.astype("<i8")])
    for t in range(shape[0]):
        total = sum(
            (np.int64(c) * q[t - j] for j, c in taps(params, t)), np.zeros_like(q[0])
        )
        down, half = total >> 16, total & 65535
        q[t] += down + ((half > 32768) | ((half == 32768) & (down % 2 == 1)))
    with np.errstate(over="ignore"):
        x = (q * step).astype(dtype).ravel()
    where = np.frombuffer(data, "<u8", n, three)
    need((where[1:] > where[:-1]).all() and (where < x.size).all(), "bounded: exceptions")
    x[where.astype("<i8")] = np.frombuffer(data, dtype, n, four)
    return np.asarray(x)


CODECS: dict[str, Callable[[bytes, Any, tuple[int, int], Any], Array]] = {
    "raw": lambda data, dtype, shape, params: np.frombuffer(data, dtype),
    "blosc2": lambda data, dtype, shape, params: np.frombuffer(
        expanded(data, dtype.itemsize, math.prod(shape)), dtype
    ),
    "delta": delta,
    "linear": linear,
    "bounded": bounded,
}


def chunk(
    data: Data, owner: Any, keys: Any, name: str, shape: tuple[int, ...], most: int = 2**30
) -> Array:
    """One chunk of the record `owner`, decoded."""
    need(name in DTYPES, f"dtype {name}")
    dtype, count = np.dtype(name).newbyteorder("<"), math.prod(shape)
    start, size = owner.payload + keys["offset"], keys["size"]
    need(keys["offset"] >= 0 and size >= 0 and start + size <= owner.end, "chunk: place")
    stored = data[start : start + size]
    if crc32c(stored) != keys["crc32c"]:
        raise Damaged(f"byte {start}: chunk")
    need(keys["raw"] == count * dtype.itemsize <= most, "chunk: raw")
    need(keys["codec"] in CODECS, f"codec {keys['codec']}")
    rows = (shape[0], math.prod(shape[1:]))
    return CODECS[keys["codec"]](stored, dtype, rows, keys["params"]).reshape(shape)


# 2.4 to 2.6: SCHEMA, trees, blocks


def checked(schema: Any) -> Any:
    """SCHEMA; each field with the number of its cadence."""
    need(0 <= schema["n_atoms"] < 2**31 and 1 <= len(schema["fields"]) <= 64, "SCHEMA")
    seen: list[Any] = []
    for i, field in enumerate(schema["fields"]):
        need(field.keys() >= KEYS, "field: keys")
        shape, every = field["shape"], field["every"]
        need(field["name"].isascii() and field["name"].isidentifier(), "field: name")
        need(field["dtype"] in DTYPES and len(shape) <= 8, "field: dtype or shape")
        need(all(type(n) is int and n > 0 for n in shape[shape[:1] == ["atom"] :]), "shape")
        need(type(field["offset"]) is int and type(every) in (int, type(None)), "cadence")
        need(0 <= field["offset"] < (1 if every is None else every), "field: offset")
        bound, lossy = (
            field["precision"],
            field["dtype"][0] == "f" and shape[:1] == ["atom"],
        )
        need(bound is None or (lossy and 0 < bound < math.inf), "field: precision")
        part = math.prod(shape[shape[:1] == ["atom"] :]) * np.dtype(field["dtype"]).itemsize
        need(part <= 2**26, "field: size")
        key = (i, None) if every is None else (every, field["offset"])
        seen += [] if key in seen else [key]
        field["cadence"] = seen.index(key)
        axes = [schema["n_atoms"] if n == "atom" else n for n in shape]
        field["sample"] = tuple(axes)
    need(
        len({field["name"] for field in schema["fields"]}) == i + 1,
        "two fields of one name",
    )
    need(len(seen) <= 8, "more than 8 cadences")
    return schema


def tree(data: Data, owner: Any, keys: Any) -> Any:
    """The tree of METADATA or CHECKPOINT."""

    def restored(node: Any, depth: int) -> Any:
        need(depth <= 32, "tree: depth")
        if isinstance(node, dict):
            return {key: restored(value, depth + 1) for key, value in node.items()}
        if isinstance(node, list):
            return [restored(value, depth + 1) for value in node]
        if not isinstance(node, msgpack.ExtType):
            need(not isinstance(node, msgpack.Timestamp), "tree: extension")
            return node
        need(node.code in (1, 2, 3) and len(node.data) == 4, "tree: extension")
        item = keys["chunks"][int.from_bytes(node.data, "little")]
        array = chunk(data, owner, item, item["dtype"], (1, *item["shape"]))
        if node.code == 1:
            return array.reshape(item["shape"])
        return array.tobytes().decode() if node.code == 2 else array.tobytes()

    need(isinstance(keys["tree"], dict), "tree: no map")
    return restored(keys["tree"], 0)


def block_steps(data: Data, owner: Any, keys: Any, schema: Any) -> list[Any]:
    """The steps of each cadence; None where their chunk is damaged."""
    found: list[Any] = []
    need(max(keys["samples"]) <= keys["frames"], "BLOCK: samples")
    for n, runs in zip(keys["samples"], keys["runs"], strict=True):
        if isinstance(runs, int):
            try:
                found.append(chunk(data, owner, keys["chunks"][runs], "int64", (n,)))
            except Damaged:
                found.append(None)
            continue
        need(n >= 0 and all(c > 0 and a + (c - 1) * s < 2**62 for a, s, c in runs), "runs")
        need(sum(c for _, _, c in runs) == n, "runs: count")
        found.append(np.array([a + s * i for a, s, c in runs for i in range(c)], "i8"))
    if any(steps is None for steps in found):
        return found
    frames = np.unique(np.concatenate(found))
    need(len(frames) == keys["frames"] and frames[0] == keys["first"] >= 0, "BLOCK: steps")
    need(frames[-1] + 1 == keys["end"] <= 2**62, "BLOCK: end")
    for steps, field in ((found[field["cadence"]], field) for field in schema["fields"]):
        need((steps[1:] > steps[:-1]).all(), "steps are not in order")
        due = frames[frames % (field["every"] or 1) == field["offset"]]
        need(field["every"] is None or np.array_equal(steps, due), "steps that are not due")
    return found


def block_field(
    data: Data, owner: Any, keys: Any, number: int, field: Any, n: int
) -> Array:
    """All samples of a field in a block."""
    shape = (n, *field["sample"])
    mine = [c for c in keys["chunks"] if c["field"] == number]
    itemsize = np.dtype(field["dtype"]).itemsize
    need(
        sum(c["raw"] for c in mine) == math.prod(shape) * itemsize,
        "chunks do not cover the field",
    )
    values, seen = np.zeros(shape, np.dtype(field["dtype"])), np.zeros(shape[:2], bool)
    for c in mine:
        part = [slice(c["first"], c["first"] + c["count"])]
        part += [slice(*c["atoms"])] if field["shape"][:1] == ["atom"] else []
        for axis, length in zip(part, shape, strict=False):
            need(0 <= axis.start < axis.stop <= length, "chunk: samples or atoms")
        need(not seen[*part].any(), "chunks overlap")
        seen[*part] = True
        part_shape = values[*part].shape
        values[*part] = chunk(data, owner, c, field["dtype"], part_shape, 2**26 + 2**22)
    return values


BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)


def block(data: Data, owner: Any, schema: Any, samples: Any, lost: list[Any]) -> int:
    """Add the samples of a BLOCK to `samples`, the others to `lost`; count its frames."""
    keys = unpacked(owner, BLOCK, f"byte {owner.at}: BLOCK")
    frames, first, end = (keys[key] for key in ("frames", "first", "end"))
    need(all(type(n) is int for n in (frames, first, end)), "BLOCK: map")
    need(0 <= first < end <= 2**62 and 1 <= frames <= 2**24, "BLOCK: map")
    span = first, end - 1
    try:
        steps = block_steps(data, owner, keys, schema)
    except BROKEN as error:
        lost += [(name, *span, error) for name in samples]
        return int(frames)
    for number, field in enumerate(schema["fields"]):
        mine = steps[field["cadence"]]
        try:
            if mine is None:
                raise Damaged("steps")
            if len(mine):
                array = block_field(data, owner, keys, number, field, len(mine))
                samples[field["name"]].append((mine, array))
        except BROKEN as error:
            lost.append((field["name"], *span, error))
    return int(frames)


def may_be_due(field: Any, first: int, last: int) -> bool:
    """Whether a field can have a sample at one of these steps."""
    every, offset = field["every"] or 1, field["offset"]
    return bool((offset - first) % every <= last - first)


def frames_of(data: Data, commits: list[Any], schema: Any) -> tuple[Any, Any]:
    """Samples: by field (steps, values); lost: (field, first and last step, error)."""
    samples: Any = {field["name"]: [] for field in schema["fields"]}
    lost: list[Any] = []
    frames = 0
    for commit in commits:
        for found in transaction(data, commit):
            if found and found.kind == BLOCK:
                with suppress(*BROKEN):  # then frames are missing
                    frames += block(data, found, schema, samples, lost)
        need(frames <= commit.frames, "COMMIT: frames")
        if frames < commit.frames:
            error, span = Damaged("a BLOCK"), (commit.first, commit.end - 1)
            due = (f["name"] for f in schema["fields"] if may_be_due(f, *span))
            lost += [(name, *span, error) for name in due]
        frames = commit.frames
    return samples, lost


def tree_at(data: Data, at: int, kind: int, lost: list[Any]) -> Any:
    """The tree of the record at `at`; None if it is unreadable."""
    try:
        found = record(data, at)
        return tree(data, found, unpacked(found, kind, f"byte {at}: tree"))
    except BROKEN as error:
        lost.append((None, at, at, error))
        return None


def checkpoints_of(data: Data, commits: list[Any], lost: list[Any]) -> list[Any]:
    """Pairs (step, tree), from old to new; TABLE knows the steps of the last two."""
    steps = {}
    with suppress(*BROKEN):
        listed = unpacked(record(data, commits[-1].table), TABLE, "TABLE")["checkpoints"]
        steps = {offset: step for step, offset in listed}
    found = []
    for at in sorted({commit.checkpoint for commit in commits} - {0}):
        owner = record(data, at)
        if owner and owner.map is not None:
            steps[at] = unpacked(owner, CHECKPOINT, "CHECKPOINT").get("step")
        found.append((steps.get(at), tree_at(data, at, CHECKPOINT, lost)))
    return found


def contents(data: Data, strict: bool) -> dict[str, Any]:
    """Section 4, then everything along the chain."""
    need(data[:8] == b"\x89SON\r\n\x1a\n" and len(data) >= 64, "no .son file")
    version = int.from_bytes(data[8:12], "little")
    if version != 1:
        raise Refused(f"major version {version}")
    head = record(data, 64)
    header = unpacked(head, HEADER, "HEADER")
    if header["incompatible"]:
        raise Refused(f"features {header['incompatible']}")
    last, sealed, end = last_commit(data, header["uuid"])
    commits = chain(data, last, header["uuid"])
    place = record(data, last.schema)
    schema = checked(unpacked(place, SCHEMA, "SCHEMA"))
    need(last.schema == padded(head.end), "SCHEMA is not the record behind HEADER")
    need(last.metadata == padded(place.end), "METADATA is not the record behind SCHEMA")
    samples, lost = frames_of(data, commits, schema)
    checkpoints = checkpoints_of(data, commits, lost)
    metadata = tree_at(data, last.metadata, METADATA, lost)
    if strict and lost:
        raise Damaged(f"{lost[0][:3]}: {lost[0][3]}") from lost[0][3]
    steps, arrays = {}, {}
    for field in schema["fields"]:
        pairs = [(np.zeros(0, "i8"), np.zeros((0, *field["sample"]), field["dtype"]))]
        pairs += samples[field["name"]]
        steps[field["name"]], arrays[field["name"]] = map(
            np.concatenate, zip(*pairs, strict=True)
        )
    return {
        "header": header,
        "schema": schema,
        "metadata": metadata,
        "steps": steps,
        "arrays": arrays,
        "checkpoints": checkpoints,
        "sealed": sealed,
        "torn_bytes": len(data) - end,
        "frames": last.frames,
        "digest": last.digest,
        "unreadable": [item[:3] for item in lost if item[0]],
        "damage": [
            f"byte {c.own}: its transaction" for c in commits if not is_whole(data, c)
        ],
    }


def read(source: str | Path | bytes, strict: bool = True) -> dict[str, Any]:
    """Everything in a file.

    Args:
        source: a path or the bytes.
        strict: refuse a file with damage in it; else what is damaged is left out.

    Returns:
        header, schema, metadata (tree), steps and arrays (by field), checkpoints (step and
        tree), sealed, torn_bytes, frames, digest, unreadable (field, first and last step of
        its block), damage (transactions that do not verify, as text).

    Raises:
        Refused: the file must not be read.
        Damaged: a checksum fails in a committed part.
    """
    try:
        if isinstance(source, bytes):
            return contents(source, strict)
        with open(source, "rb") as file:
            if not file.seek(0, 2):
                return contents(b"", strict)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return contents(data, strict)
    except Refused:
        raise
    except BROKEN as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


# The script: spec/vectors/README.md


def plain(value: Any) -> Any:
    """A tree as JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        sha256 = hashlib.sha256(value.tobytes()).hexdigest()
        shape = {"dtype": value.dtype.name, "shape": list(value.shape)}
        return {"array": {**shape, "sha256": sha256}}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def summary(path: str) -> dict[str, Any]:
    """What an implementation prints."""
    found = read(path, strict=False)
    fields = {}
    for field in found["schema"]["fields"]:
        steps, array = found["steps"][field["name"]], found["arrays"][field["name"]]
        listed = (
            steps.tolist()
            if len(steps) <= 64
            else hashlib.sha256(steps.tobytes()).hexdigest()
        )
        fields[field["name"]] = {
            **{key: field[key] for key in ("dtype", "shape", "unit", "every", "offset")},
            "samples": len(steps),
            "steps": listed,
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        }
    parent = found["header"].get("parent")
    if parent is not None:
        parent = {k: v.hex() if isinstance(v, bytes) else v for k, v in parent.items()}
    lost = [
        dict(zip(("field", "first_step", "last_step"), u, strict=True))
        for u in found["unreadable"]
    ]
    return {
        **{key: found[key] for key in ("sealed", "torn_bytes", "frames")},
        "uuid": found["header"]["uuid"].hex(),
        "digest": found["digest"].hex(),
        "parent": parent,
        "n_atoms": found["schema"]["n_atoms"],
        "fields": fields,
        "metadata": plain(found["metadata"]),
        "checkpoints": [
            {"step": s, "tree": plain(t)} for s, t in found["checkpoints"][-2:]
        ],
        "unreadable": lost,
    }


def main(arguments: list[str]) -> None:
    """`FILE`, or `--batch` with names on stdin."""
    batch = arguments == ["--batch"]
    for name in (line.rstrip("\n") for line in sys.stdin) if batch else arguments:
        try:
            sys.stdout.write(json.dumps(summary(name)) + "\n")
        except (Refused, OSError) as error:
            if not batch:
                sys.exit(f"{name}: {error}")
            sys.stdout.write(json.dumps({"refused": str(error)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
