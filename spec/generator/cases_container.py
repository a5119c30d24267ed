"""Sealed, reopened, torn; what readers ignore; INDEX of two levels; beyond 4 GiB."""

from hashlib import sha256

from spec.generator.codecs import delta
from spec.generator.expect import damaged, refused
from spec.generator.file import File
from spec.generator.records import COMMIT, NOTE, field
from spec.generator.values import motion, noise
from spec.generator.vector import Vector

FIELDS = (
    field("positions", "float32", ["atom", 3], "Å", every=4),
    field("energy", "float64", [], "eV"),
)


def add(file, first, frames=8, **more):
    """A BLOCK with some frames."""
    steps = range(first, first + frames)
    due = [step for step in steps if step % 4 == 0]
    places = motion(len(due), (file.n_atoms, 3), "<f4", start=len(file.account.blocks))
    grid = noise((len(due), 9, 9), "<f4", seed=first + 2)
    samples = {"positions": (due, places), "grid": (due, grid)}
    samples["energy"] = (steps, noise(frames, seed=first + 1))
    samples = {name: each for name, each in samples.items() if name in file.named}
    return file.block(samples, {"positions": delta}, **more)


def begin(*fields, blocks=2, checkpoint=False, **more):
    """A file with some transactions of one block."""
    file = File(*(fields or FIELDS), **more)
    file.commit()
    for i in range(blocks):
        add(file, 8 * i)
        if checkpoint:
            file.checkpoint(8 * i + 7, {"state": noise(3, seed=i + 1)})
        file.commit()
    return file


def cases():
    """All cases of this module."""
    yield from closed()
    yield from torn()
    yield earlier_life()
    yield from indexes()
    yield ignored()
    yield from features()
    yield schemas()
    yield several()
    yield far()


def closed():
    """FOOTER at the end, in the middle, and again at the end."""
    file = begin(checkpoint=True)
    file.seal()
    yield Vector("sealed", "INDEX, SCALARS and FOOTER", "2.10", file, file.account.read())
    file.note()
    yield Vector(
        "reopened",
        "a FOOTER in the middle means nothing",
        "2.10",
        file,
        file.account.read(),
    )
    add(file, 20)
    file.commit()
    file.seal()
    yield Vector(
        "sealed-again",
        "two FOOTERs, the second counts; two INDEXes",
        "2.10",
        file,
        file.account.read(),
    )
    file = begin(blocks=0)
    file.seal()
    yield Vector(
        "sealed-empty",
        "closed without a frame: FOOTER behind the first COMMIT",
        "2.10",
        file,
        file.account.read(),
    )
    file = begin(field("energy", unit="eV"))
    file.seal()
    yield Vector(
        "sealed-small", "all fields are small: no SCALARS", "2.6", file, file.account.read()
    )
    file = begin()
    file.seal()
    file.tear(b"\xd5SON" + bytes(range(200)))
    yield Vector(
        "sealed-torn",
        "torn bytes behind a FOOTER: open, and FOOTER still belongs to the committed part",
        "4",
        file,
        file.account.read(size=file.size),
    )


def torn():
    """What a kill leaves behind."""
    file = begin()
    file.tear(noise(1000, "u1").tobytes())
    yield Vector(
        "torn",
        "1000 bytes behind the last COMMIT",
        "4",
        file,
        file.account.read(size=file.size),
    )
    file.pad()
    file.begin()
    file.note(torn_bytes=1000)
    add(file, 30)
    file.commit()
    yield Vector(
        "torn-appended",
        "torn bytes in the middle, NOTE, and on",
        "3",
        file,
        file.account.read(),
    )
    file = begin()
    saved, moments = file.save(), len(file.account.moments)
    add(file, 16)
    file.commit(payloads=12345)
    lost = file.size - file.account.moments[moments - 1].end
    del file.account.moments[moments:]
    yield Vector(
        "torn-commit",
        "the last COMMIT is whole, its payloads are not: the one before counts",
        "4",
        file.data,
        file.account.read(size=file.size),
    )
    file.restore(saved)
    file.note(torn_bytes=lost)
    add(file, 16, 4)
    file.commit()
    yield Vector(
        "torn-chain",
        "a whole COMMIT with its frames that is not in the chain",
        "4",
        file,
        file.account.read(),
    )


def earlier_life():
    """What the disk held before the file was written anew shows where nothing arrived."""
    lost = begin()
    for first in (16, 24, 32):
        add(lost, first)
        lost.tear(bytes(256))
    lost.commit()
    file = begin()
    file.note()
    add(file, 20)
    file.commit()
    return Vector(
        "earlier-life",
        "behind the last COMMIT that counts a whole one from an earlier life of the file, at its own offset",
        "4",
        file.data + lost.data[file.size :],
        file.account.read(size=lost.size),
    )


def indexes():
    """INDEXes of level 0 and 1, TABLE behind them."""
    file = begin(blocks=0)
    for i in range(9):
        if i in (2, 4, 7):
            scalars = file.scalars()
            file.index(0, scalars)
            if i == 4:
                file.index(1)
        if i == 5:
            file.checkpoint(40, {"only": "a checkpoint"})
            file.commit()
        add(file, 8 * i)
        if i % 3 == 0:
            file.checkpoint(8 * i + 7, {"state": noise(2)})
        file.commit()
    yield Vector(
        "index",
        "INDEX of level 0 and 1, a CHECKPOINT without a BLOCK, TABLE with the rest",
        "2.8",
        file,
        file.account.read(),
    )
    file.seal()
    yield Vector(
        "index-sealed",
        "the same, sealed: FOOTER has the roots",
        "2.10",
        file,
        file.account.read(),
    )
    file = begin(blocks=0)
    for i in range(6):
        add(file, 8 * i, 3)
        if i % 2:
            file.commit()
    file.seal()
    yield Vector(
        "several-blocks",
        "two BLOCKs in a transaction: an entry for each",
        "2.7",
        file,
        file.account.read(),
    )


def ignored():
    """Unknown records, private records, unknown keys, flags of a prefix, NOTE."""
    more = {"later": {"a": [1]}, "x": None}
    file = File(*FIELDS, header=more, schema=more, metadata=more)
    file.fields = tuple({**each, "later": 1} for each in FIELDS)
    file.commit()
    file.record(77, {"anything": 1}, b"payload")
    file.record(0x8001, {"mine": 1}, b"\x01" * 100)
    add(
        file,
        0,
        change=lambda m: {
            **m,
            "later": 1,
            "chunks": [{**c, "later": 2} for c in m["chunks"]],
        },
    )
    file.record(NOTE, {"event": "anything", "value": 1.5})
    file.record(0xFFFF, b"", b"")
    file.checkpoint(7, {"a": 1}, change=lambda m: {**m, "later": 1})
    file.commit(change=lambda m: {**m, "later": 1})
    add(file, 8, flags=0xFFFF)
    file.commit()
    file.scalars(change=lambda m: {**m, "later": 1})
    file.index(0, file.before["scalars"], change=lambda m: {**m, "later": 1})
    file.commit()
    file.footer(change=lambda m: {**m, "later": 1})
    return Vector(
        "ignored",
        "unknown and private records, unknown keys in every map, flags of a prefix",
        "2.2",
        file,
        file.account.read(),
    )


def features():
    """The three sets of flags, and other major versions."""
    file = begin(header={"compatible": ["colour"]})
    yield Vector(
        "feature-compatible",
        "a feature that everybody may ignore",
        "2.3",
        file,
        file.account.read(),
    )
    file = begin(header={"read_compatible": ["moving-atoms"]})
    yield Vector(
        "feature-read-compatible",
        "a feature that a reader may ignore; who does not know it must not append",
        "2.3",
        file,
        file.account.read(),
    )
    file = begin(header={"incompatible": ["encrypted"]})
    yield Vector(
        "feature-incompatible",
        "a feature that must be known",
        "2.3",
        file,
        {**refused("feature"), "names": "encrypted"},
    )
    for major in (0, 2, 2**32 - 1):
        file = begin(major=major)
        yield Vector(
            f"version-{major}",
            "another major version",
            "2.1",
            file,
            {**refused("version"), "names": str(major)},
        )


def schemas():
    """A later COMMIT names another SCHEMA, or another METADATA: version 1 has one of each."""
    variants = []
    for what in ("schema", "metadata"):
        for name in ("last", "middle", "sealed", "once"):
            file = begin()
            own = getattr(file, what)
            at, kind, head, payload, _ = next(
                each for each in file.places if each[0] == own
            )
            parts = (
                file.data[at + 32 : at + head],
                file.data[at + head : at + head + payload],
            )
            setattr(file, what, file.record(kind, *parts))
            add(file, 16)
            file.commit()
            if name == "once":
                setattr(file, what, own)
            if name in ("middle", "once"):
                add(file, 24)
                file.commit()
            if name == "sealed":
                file.seal()
            right = damaged(file.account.read()) if name == "once" else refused("malformed")
            variants.append((f"{what}-{name}", file.data, right))
    base = begin()
    return Vector(
        "two-schemas",
        "a COMMIT that names another SCHEMA or METADATA than the one before",
        "2.4",
        base,
        variants=[("one", base.data, base.account.read()), *variants],
    )


def several():
    """COMMITs that verify or not: other files, other places."""
    file = begin()
    start, good = file.size, file.account.read()
    copy = file.data[file.before["offset"] : file.size]
    other = begin(uuid=sha256(b"other").digest()[:16])
    older = [place for place in file.places if place[1] == COMMIT][-2]
    stranger = begin()
    stranger.uuid = other.uuid
    add(stranger, 16)
    stranger.commit()
    variants = [
        ("copied", file.data + copy),
        ("copied-older", file.data + file.data[older[0] : older[4]]),
        ("other-uuid", stranger.data),
        ("of-another-file", file.data + other.data[other.before["offset"] :]),
    ]
    variants += [
        ("shifted", file.data + bytes(64) + copy),
        ("whole-file", file.data + other.data),
    ]
    found = [
        (name, data, {**good, "torn_bytes": len(data) - start}) for name, data in variants
    ]
    return Vector(
        "foreign-commits",
        "a COMMIT that was copied, or is of another file, does not count",
        "2.9",
        file,
        variants=found,
    )


def far():
    """Offsets beyond 4 GiB: a hole that a kill has left, and frames on both sides."""
    file = begin(checkpoint=True)
    file.hole(2**32 + 2**20)
    file.begin()
    file.note(torn_bytes=2**32 + 2**20)
    for first in (16, 24):
        add(file, first)
        file.checkpoint(first + 7, {"state": noise(3, seed=first)})
        file.commit()
    file.seal()
    add(file, 32)
    file.commit()
    return Vector(
        "beyond-4-gib",
        "offsets above 2^32, with 4 GiB of torn zeros in the middle",
        "2.9",
        file,
        file.account.read(),
    )
