"""Files that lie outside of their blocks: records, TABLE and INDEX, COMMIT, HEADER and SCHEMA.

As in `cases_hostile`, every checksum is right.
"""

import msgpack
import numpy as np

from spec.generator.cases_hostile import (
    BOMB,
    FIELD,
    build,
    changed,
    family,
    first_chunk,
    without_second,
)
from spec.generator.codecs import delta
from spec.generator.expect import damaged, refused
from spec.generator.file import File
from spec.generator.records import HEADER, NOTE, SCHEMA, field, pack
from spec.generator.values import deep, motion


def cases():
    """All cases of this module."""
    yield family(
        "hostile-records", "lengths and maps of other records that lie", "2.2", records()
    )
    yield family("hostile-tables", "TABLE and INDEX that lie", "2.7", tables())
    yield family("hostile-commits", "COMMITs that lie", "2.9", commits())
    yield family(
        "hostile-headers", "HEADER, SCHEMA and METADATA that lie", "2.3", headers()
    )


def records():
    """Prefixes and maps of records."""
    for name, lies in {
        "payload-2-63": {"payload": 2**63},
        "payload-2-40": {"payload": 2**40},
        "payload-2-64": {"payload": 2**64 - 1},
        "map-2-32": {"map": 2**32 - 1},
        "map-65536": {"map": 65536},
        "type-of-another": {"type": NOTE},
    }.items():
        yield f"block-{name}", *without_second(**lies)
    for name, lies in {
        "payload-2-63": {"payload": 2**63},
        "map-2-32": {"map": 2**32 - 1},
    }.items():
        file = build(middle=lambda f, lies=lies: f.record(NOTE, {"a": 1}, **lies))
        yield f"note-{name}", file.data, damaged(file.account.read())
    file = build(middle=lambda f: f.record(0x8001, BOMB))
    yield "private-bomb", file.data, damaged(file.account.read())
    tree = lambda value: lambda m: {**m, "tree": value}
    reference = lambda code, data: tree({"a": msgpack.ExtType(code, data)})
    private = lambda m: pack(reference(100, bytes(4))(m)).replace(b"\xd6\x64", b"\xd6\x9c")
    changes = {
        "chunk-number": lambda m: {**m, "chunks": []},
        "chunk-offset": first_chunk(offset=2**40),
        "chunk-shape": first_chunk(shape=[2**20, 2**20, 2**20]),
        "chunk-shape-negative": first_chunk(shape=[-1, -3]),
        "chunk-dtype": first_chunk(dtype="object"),
        "chunk-dtype-text": first_chunk(dtype="str"),
        "reference-short": reference(1, b"\x00"),
        "timestamp": tree({"a": msgpack.Timestamp(1)}),
        "timestamp-deep": tree({"a": [{"b": msgpack.Timestamp(1)}]}),
        "reference-private": private,
        "reference-kind": reference(9, bytes(4)),
        "text-no-utf8": reference(2, bytes(4)),
        "deep": tree({"a": deep(200)}),
        "bomb": lambda _: BOMB,
        "no-tree": lambda _: {"step": 17, "chunks": []},
        "tree-list": tree([1, 2]),
    }
    state = {"a": np.array([0.1, 0.2, 1e300])}
    for name, change in changes.items():
        file = build(third=lambda f, change=change: f.checkpoint(17, state, change))
        yield f"checkpoint-{name}", file.data, file.account.read(checkpoints=(0,))


def redundant(file):
    """All can be read by the chain of COMMITs; who believes the entries finds no block."""
    return [
        damaged(file.account.read()),
        file.account.read(lost=[(n, None) for n in range(3)]),
    ]


def entries(**keys):
    """Columns replaced."""
    return lambda content: {**content, "entries": {**content["entries"], **keys}}


def without_last(content):
    """The last row is missing."""
    cut = {k: each[:-1] for k, each in content["entries"].items()}
    samples = [each[:-1] for each in content["entries"]["samples"]]
    return {**content, "entries": {**cut, "samples": samples}}


def tables():
    """Entries of TABLE, INDEX and FOOTER; all of it is redundant."""
    yield from lies_of_tables()
    yield from lies_of_indexes()
    yield from lies_of_footers()


def lies_of_tables():
    """TABLE."""
    changes = {
        "out-of-order": entries(frames=[6, -6, 18]), "overflow": entries(frames=[2**63 - 1, 2**63 - 1, 1]),
        "offset-beyond": entries(record=[2**40, 0, 0]), "offset-odd": entries(record=[65, 0, 0]),
        "offset-negative": entries(record=[-64, 64, 64]), "offset-of-commit": lambda m: entries(record=m["entries"]["commit"])(m),
        "one-short": entries(frames=[6, 6]), "no-column": lambda m: {**m, "entries": {"record": [1]}},
        "samples-more": entries(samples=[[6, 6, 6], [0, 0, 0]]), "text": entries(first="abc"), "floats": entries(end=[6.0, 6.0, 6.0]),
        "last-missing": without_last, "empty": lambda m: {}, "bomb": lambda _: BOMB,
        "checkpoints": lambda m: {**m, "checkpoints": [[1, 2, 3]]}, "totals": lambda m: {**m, "totals": None},
        "totals-negative": lambda m: {**m, "totals": {"raw": [1, 2], "stored": [], "codecs": 5}},
    }  # fmt: skip
    for name, change in changes.items():
        file = open_end(lambda f, change=change: f.commit(change=change))
        yield f"table-{name}", file.data, redundant(file)


def lies_of_indexes():
    """INDEX."""
    changes = {
        "out-of-order": entries(frames=[6, -6, 18]), "record-beyond": entries(record=[2**40, 0, 0]), "level": lambda m: {**m, "level": 99},
        "roots-itself": lambda m: {**m, "entries": m["roots"][0]}, "roots-missing": lambda m: {k: v for k, v in m.items() if k != "roots"},
        "roots-many": lambda m: {**m, "roots": m["roots"] * 100}, "bomb": lambda _: BOMB, "last-missing": without_last,
    }  # fmt: skip
    for name, change in changes.items():

        def index(file, change=change):
            file.commit()
            file.index(0, 0, change=change)
            file.commit()

        file = open_end(index)
        yield f"index-{name}", file.data, redundant(file)


def lies_of_footers():
    """FOOTER."""
    roots = lambda **keys: lambda m: {**m, "roots": [{**m["roots"][0], **keys}]}
    for name, change in {
        "roots-out-of-order": roots(frames=[-5]),
        "roots-beyond": roots(record=[2**40]),
        "roots-none": lambda m: {**m, "roots": []},
    }.items():
        file = build()
        file.index()
        file.commit()
        file.footer(change=change)
        yield f"footer-{name}", file.data, redundant(file)
    for key, value in {"uuid": bytes(16), "offset": 64, "commit": 0}.items():
        file = build()
        file.footer(change=changed(**{key: value}))
        yield f"footer-{key}-wrong", file.data, file.account.read(-2, size=file.size)


def open_end(finish):
    """Three blocks, the last one committed by `finish`."""
    file = File.created(FIELD)
    for i in range(3):
        steps, values = range(6 * i, 6 * i + 6), motion(6, (2, 2), start=6 * i)
        file.block({"x": (steps, values)}, {"x": delta})
        if i < 2:
            file.commit()
    finish(file)
    return file


def commits():
    """COMMITs whose checksums are right."""
    file = build()
    good, size = file.account.read(), file.size
    own = file.size
    for name, lies in {
        "own-offset": {"offset": own + 64}, "previous-itself": {"previous": own + 192}, "previous-later": {"previous": own + 6400},
        "schema-later": {"schema": own + 6400}, "metadata-later": {"metadata": own + 6400}, "index-later": {"index": 2**40},
        "table-later": {"table": own + 6400}, "checkpoint-later": {"checkpoint": 2**62}, "start-later": {"start": own + 6400},
        "all-ones": dict.fromkeys(("previous", "index", "scalars", "schema"), 2**64 - 1),
    }.items():  # fmt: skip
        file = build()
        file.commit(lies=lies)
        yield name, file.data, {**good, "torn_bytes": file.size - size}
    at = build().commit()
    for name, lies, sums in (
        ("start-is-own", {"start": at}, {"heads": 0, "payloads": 0}),
        ("previous-none", {"previous": 0}, {"heads": 1}),
    ):
        file = build()
        file.commit(lies=lies, **sums)
        yield name, file.data, {**good, "torn_bytes": file.size - size}
    for name, lies in {
        "schema-of-header": {"schema": 64},
        "schema-none": {"schema": 0},
        "schema-odd": {"schema": 65},
    }.items():
        file = build()
        file.commit(lies=lies)
        yield name, file.data, refused("malformed")
    for name, lies, more in (
        ("chain", {}, {"chain": bytes(range(32))}),
        ("previous-no-commit", {"previous": 64}, {}),
        ("previous-skips", {"previous": 640}, {}),
    ):
        file = build()
        file.commit(lies=lies, **more)
        yield name, file.data, damaged(file.account.read())
    file = build()
    file.block({"x": (range(18, 24), motion(6, (2, 2)))})
    file.commit(heads=1)
    file.account.moments.pop()
    yield "heads", file.data, {**good, "torn_bytes": file.size - size}


def headers():
    """The first three records."""
    for name, header in {
        "uuid-short": {"uuid": bytes(15)}, "uuid-text": {"uuid": "a" * 16}, "features-text": {"incompatible": "none"},
        "features-numbers": {"incompatible": [1]}, "bomb": BOMB, "no-map": b"\x93\x01\x02\x03", "empty": b"",
    }.items():  # fmt: skip
        yield f"header-{name}", created(header=header), refused("malformed")
    good = field("x", "float64", ["atom", 2])
    keys = {
        "name-number": {"name": 5}, "name-empty": {"name": ""}, "name-odd": {"name": "a b"}, "name-umlaut": {"name": "ä"},
        "dtype": {"dtype": "object"}, "dtype-complex": {"dtype": "complex128"}, "dtype-big-endian": {"dtype": ">f8"},
        "shape-negative": {"shape": ["atom", -1]}, "shape-zero": {"shape": ["atom", 0]}, "shape-atom-second": {"shape": [2, "atom"]},
        "shape-word": {"shape": ["bond", 2]}, "shape-axes": {"shape": [1] * 9}, "shape-huge": {"shape": ["atom", 2**30]},
        "every-zero": {"every": 0}, "every-negative": {"every": -2}, "every-float": {"every": 2.0}, "offset": {"every": 2, "offset": 2},
        "offset-irregular": {"every": None, "offset": 1}, "precision": {"precision": -1.0}, "precision-nan": {"precision": float("nan")},
        "precision-integer": {"precision": 1e-3, "dtype": "int32"},
    }  # fmt: skip
    bad = {name: {**good, **each} for name, each in keys.items()}
    bad.update({f"no-{key}": {k: v for k, v in good.items() if k != key} for key in good})
    schemas = {name: {"fields": [each]} for name, each in bad.items()}
    schemas.update(
        {
            "no-fields": {"fields": []}, "fields-65": {"fields": [field(f"f{i}") for i in range(65)]}, "twice": {"fields": [good, good]},
            "cadences-9": {"fields": [field(f"f{i}", every=i + 1) for i in range(9)]}, "atoms-negative": {"n_atoms": -1},
            "atoms-2-31": {"n_atoms": 2**31}, "atoms-float": {"n_atoms": 2.0},
        }
    )  # fmt: skip
    for key in ("n_atoms", "fields"):
        yield f"schema-no-{key}", created(change=without(SCHEMA, key)), refused("malformed")
    for key in ("uuid", "incompatible"):
        yield f"header-no-{key}", created(change=without(HEADER, key)), refused("malformed")
    for key in ("created", "writer", "compatible", "read_compatible", "parent"):
        file = creation(change=without(HEADER, key))
        yield f"header-no-{key}", file.data, damaged(file.account.read())
    for name, schema in schemas.items():
        yield f"schema-{name}", created(schema=schema), refused("malformed")
    for name, tree in (
        ("deep", {"a": deep(200)}),
        ("reference", {"a": msgpack.ExtType(1, b"\xff" * 4)}),
    ):
        file = build(metadata=tree)
        file.account.metadata = {}
        yield f"metadata-{name}", file.data, file.account.read(metadata=False)


def created(**more):
    """A file without frames, so that nothing else can be wrong with it."""
    return creation(**more).data


def creation(change=None, **more):
    """The same with its account."""

    class Changed(File):
        """A file whose maps are changed before they are written."""

        def record(self, kind, content, body=b"", **lies):
            content = change(kind, content) if change else content
            return super().record(kind, content, body, **lies)

    return Changed.created(FIELD, **more)


def without(which, key):
    """A map of one type of record without a key."""

    def change(kind, content):
        return {k: v for k, v in content.items() if kind != which or k != key}

    return change
