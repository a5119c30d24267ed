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
    samples = {
        "positions": (due, places),
        "energy": (steps, noise(frames, seed=first + 1)),
        "grid": (due, noise((len(due), 9, 9), "<f4", seed=first + 2)),
    }
    samples = {name: each for name, each in samples.items() if name in file.named}
    return file.block(samples, {"positions": delta}, **more)


def transaction(file, first, frames=8):
    """The same, committed."""
    add(file, first, frames)
    file.commit()


def begin(*fields, blocks=2, checkpoint=False, **more):
    """A file with some transactions of one block."""
    file = File.created(*(fields or FIELDS), **more)
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
    yield Vector("sealed", "INDEX, SCALARS and FOOTER", "2.10", file)
    file.note()
    yield Vector("reopened", "a FOOTER in the middle means nothing", "2.10", file)
    transaction(file, 20)
    file.seal()
    about = "two FOOTERs, the second counts; two INDEXes"
    yield Vector("sealed-again", about, "2.10", file)
    file = begin(blocks=0)
    file.seal()
    about = "closed without a frame: FOOTER behind the first COMMIT"
    yield Vector("sealed-empty", about, "2.10", file)
    file = begin(field("energy", unit="eV"))
    file.seal()
    yield Vector("sealed-small", "all fields are small: no SCALARS", "2.6", file)
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
    right = file.account.read(size=file.size)
    yield Vector("torn", "1000 bytes behind the last COMMIT", "4", file, right)
    file.pad()
    file.begin()
    file.note(torn_bytes=1000)
    transaction(file, 30)
    yield Vector("torn-appended", "torn bytes in the middle, NOTE, and on", "3", file)
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
    transaction(file, 16, 4)
    about = "a whole COMMIT with its frames that is not in the chain"
    yield Vector("torn-chain", about, "4", file)


def earlier_life():
    """What the disk held before the file was written anew shows where nothing arrived."""
    lost = begin()
    for first in (16, 24, 32):
        add(lost, first)
        lost.tear(bytes(256))
    lost.commit()
    file = begin()
    file.note()
    transaction(file, 20)
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
            file.index(0, file.scalars())
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
    )
    file.seal()
    yield Vector("index-sealed", "the same, sealed: FOOTER has the roots", "2.10", file)
    file = begin(blocks=0)
    for i in range(6):
        add(file, 8 * i, 3)
        if i % 2:
            file.commit()
    file.seal()
    about = "two BLOCKs in a transaction: an entry for each"
    yield Vector("several-blocks", about, "2.7", file)


def ignored():
    """Unknown records, private records, unknown keys, flags of a prefix, NOTE."""
    more = {"later": {"a": [1]}, "x": None}
    later = lambda content: {**content, "later": 1}
    file = File(*FIELDS, header=more, schema=more, metadata=more)
    file.fields = tuple(map(later, FIELDS))
    file.commit()
    file.record(77, {"anything": 1}, b"payload")
    file.record(0x8001, {"mine": 1}, b"\x01" * 100)
    chunks = lambda content: [{**each, "later": 2} for each in content["chunks"]]
    add(file, 0, change=lambda content: {**later(content), "chunks": chunks(content)})
    file.record(NOTE, {"event": "anything", "value": 1.5})
    file.record(0xFFFF, b"", b"")
    file.checkpoint(7, {"a": 1}, change=later)
    file.commit(change=later)
    add(file, 8, flags=0xFFFF)
    file.commit()
    file.index(0, file.scalars(change=later), change=later)
    file.commit()
    file.footer(change=later)
    return Vector(
        "ignored",
        "unknown and private records, unknown keys in every map, flags of a prefix",
        "2.2",
        file,
    )


def features():
    """The three sets of flags, and other major versions."""
    no = {**refused("feature"), "names": "encrypted"}
    for key, name, about, right in (
        ("compatible", "colour", "a feature that everybody may ignore", None),
        ("read_compatible", "moving-atoms", "a feature that a reader may ignore; who does not know it must not append", None),
        ("incompatible", "encrypted", "a feature that must be known", no),
    ):  # fmt: skip
        file = begin(header={key: [name]})
        yield Vector(f"feature-{key.replace('_', '-')}", about, "2.3", file, right)
    for major in (0, 2, 2**32 - 1):
        right = {**refused("version"), "names": str(major)}
        file = begin(major=major)
        yield Vector(f"version-{major}", "another major version", "2.1", file, right)


def schemas():
    """A later COMMIT names another SCHEMA, or another METADATA: version 1 has one of each."""
    base, no = begin(), refused("malformed")
    variants = [("one", base.data, base.account.read())]
    for what in ("schema", "metadata"):
        for name in ("last", "middle", "sealed", "once"):
            file = renamed(what, name)
            right = damaged(file.account.read()) if name == "once" else no
            variants.append((f"{what}-{name}", file.data, right))
    return Vector(
        "two-schemas",
        "a COMMIT that names another SCHEMA or METADATA than the one before",
        "2.4",
        base,
        variants=variants,
    )


def renamed(what, where):
    """A file with a copy of its SCHEMA or METADATA, which COMMITs name from then on, or once."""
    file = begin()
    own = getattr(file, what)
    at, kind, head, payload, _ = next(each for each in file.places if each[0] == own)
    body = at + head
    content, payload = file.data[at + 32 : body], file.data[body : body + payload]
    setattr(file, what, file.record(kind, content, payload))
    transaction(file, 16)
    if where == "once":
        setattr(file, what, own)
    if where in ("middle", "once"):
        transaction(file, 24)
    if where == "sealed":
        file.seal()
    return file


def several():
    """COMMITs that verify or not: other files, other places."""
    file = begin()
    start, good = file.size, file.account.read()
    copy = file.data[file.before["offset"] :]
    at, _, _, _, end = [place for place in file.places if place[1] == COMMIT][-2]
    other = begin(uuid=sha256(b"other").digest()[:16])
    stranger = begin()
    stranger.uuid = other.uuid
    transaction(stranger, 16)
    files = {
        "copied": file.data + copy,
        "copied-older": file.data + file.data[at:end],
        "other-uuid": stranger.data,
        "of-another-file": file.data + other.data[other.before["offset"] :],
        "shifted": file.data + bytes(64) + copy,
        "whole-file": file.data + other.data,
    }
    return Vector(
        "foreign-commits",
        "a COMMIT that was copied, or is of another file, does not count",
        "2.9",
        file,
        variants=[
            (name, data, {**good, "torn_bytes": len(data) - start})
            for name, data in files.items()
        ],
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
    transaction(file, 32)
    about = "offsets above 2^32, with 4 GiB of torn zeros in the middle"
    return Vector("beyond-4-gib", about, "2.9", file)
