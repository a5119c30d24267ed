"""Files that lie: every checksum is right, what stands behind it is not.

The lie stands in the second of three transactions, so that the last one verifies and the
file opens; what must not be read is that block. Lies that concern the whole file are to be
refused. In any case: an answer in bounded time and memory.
"""

import numpy as np

from spec.generator.codecs import (
    POLYNOMIALS,
    blosc2_chunk,
    bounded,
    delta,
    each,
    linear,
    plain,
)
from spec.generator.file import File
from spec.generator.records import field, pack
from spec.generator.values import motion
from spec.generator.vector import Vector

FIELD = field("x", "float64", ["atom", 2], precision=1e-3)
BOMB = b"\x81\xa1a" * 3000 + b"\xc0"


def cases():
    """All cases of this module."""
    yield family("hostile-blocks", "maps of a BLOCK that lie", "2.6", blocks())
    yield family(
        "hostile-chunks", "chunks that lie, with their checksums right", "5", chunks()
    )
    yield long_map()


def family(name, about, spec, variants):
    """Variants of one sound file."""
    file = build()
    sound = ("sound", file.data, file.account.read())
    return Vector(name, about, spec, file, variants=[sound, *variants])


def build(second=None, how=delta, middle=None, third=None, **more):
    """Three transactions of one block; `second` are options of the second, `middle` is called in it."""
    file = File.created(FIELD, **more)
    for i in range(3):
        values = motion(6, (2, 2), start=6 * i)
        if i == 1 and middle:
            middle(file)
        codec, options = (how, second or {}) if i == 1 else (delta, {})
        file.block({"x": (range(6 * i, 6 * i + 6), values)}, {"x": codec}, **options)
        if i == 2 and third:
            third(file)
        file.commit()
    return file


def lost(file):
    """The second block cannot be read."""
    return file.account.read(lost=[(1, None)])


def changed(**keys):
    """Keys of a BLOCK replaced."""
    return lambda content: {**content, **keys}


def first_chunk(**keys):
    """Keys of the first chunk replaced; None removes one."""

    def change(content):
        chunk = {k: v for k, v in {**content["chunks"][0], **keys}.items() if v is not None}
        return {**content, "chunks": [chunk, *content["chunks"][1:]]}

    return change


def blocks():
    """Maps of a BLOCK."""
    changes = {
        "runs-overflow": changed(runs=[[[2**62 - 1, 2**61, 6]]]),
        "runs-wrap": changed(runs=[[[6, 2**63, 6]]]),
        "runs-short": changed(runs=[[[6, 1, 5]]]),
        "runs-twice": changed(runs=[[[6, 1, 3], [8, 1, 3]]]),
        "runs-backwards": changed(runs=[[[9, 1, 3], [6, 1, 3]]]),
        "runs-no-stride": changed(runs=[[[6, 0, 6]]]),
        "runs-before-first": changed(runs=[[[5, 1, 6]]]),
        "runs-behind-end": changed(runs=[[[7, 1, 6]]]),
        "runs-huge-count": changed(runs=[[[6, 1, 2**40]]], samples=[2**40], frames=2**24),
        "runs-negative": changed(runs=[[[-6, 1, 6]]]),
        "runs-text": changed(runs="all"),
        "runs-missing-chunk": changed(runs=[7]),
        "runs-of-a-field": changed(runs=[0]),
        "runs-too-few": changed(runs=[]),
        "frames-none": changed(frames=0),
        "frames-many": changed(
            frames=2**24 + 1, samples=[2**24 + 1], runs=[[[6, 1, 2**24 + 1]]]
        ),
        "frames-wrong": changed(frames=7),
        "frames-float": changed(frames=6.0),
        "samples-wrong": changed(samples=[5]),
        "samples-two": changed(samples=[6, 6]),
        "first-after-end": changed(first=12, end=6),
        "first-huge": changed(first=2**62),
        "no-chunks": changed(chunks=[]),
        "chunks-map": changed(chunks={}),
        "chunk-twice": lambda m: {**m, "chunks": m["chunks"] * 2},
        "chunk-of-no-field": first_chunk(field=1),
        "chunk-field-negative": first_chunk(field=-1),
        "chunk-first-wrong": first_chunk(first=1),
        "chunk-count-huge": first_chunk(count=2**40),
        "chunk-count-none": first_chunk(count=0),
        "chunk-atoms-beyond": first_chunk(atoms=[0, 3]),
        "chunk-atoms-huge": first_chunk(atoms=[0, 2**31]),
        "chunk-atoms-backwards": first_chunk(atoms=[2, 0]),
        "chunk-offset-beyond": first_chunk(offset=2**40),
        "chunk-offset-negative": first_chunk(offset=-8),
        "chunk-offset-by-one": first_chunk(offset=1),
        "chunk-size-beyond": first_chunk(size=2**40),
        "chunk-size-huge": first_chunk(size=2**63),
        "chunk-no-crc": first_chunk(crc32c=None),
        "chunk-no-codec": first_chunk(codec=None),
        "chunk-no-params": first_chunk(params=None),
    }
    for name, packed in {
        "map-bomb": BOMB[:-1] * 7 + b"\xc0",
        "map-cut": b"\x85\xa1a",
        "map-no-map": b"\x93\x01\x02\x03",
        "map-length": b"\xdf\xff\xff\xff\xff",
        "map-empty": b"",
        "map-array-length": b"\x81\xa1a\xdd\xff\xff\xff\xff",
        "map-bin-length": b"\x81\xa1a\xc6\xff\xff\xff\xff",
        "map-text-length": b"\x81\xa1a\xdb\xff\xff\xff\xff",
        "map-ext-length": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
        "map-no-utf8": b"\x81\xa1\xff\x01",
        "map-reserved": b"\x81\xa1a\xc1",
    }.items():
        changes[name] = lambda _, packed=packed: packed
    changes["map-behind"] = lambda content: pack(content) + b"\x01"
    changes["map-key-integer"] = lambda content: {**content, 7: 1}
    for name, change in changes.items():
        yield name, *without_second(change=change)


def without_second(how=delta, **options):
    """A file whose second block cannot be read."""
    file = build(options, how)
    return file.data, lost(file)


def with_bytes(data, at=None):
    """A `blosc2` chunk of other bytes, or with other bytes at a place."""

    def call(values):
        codec, params, found, decoded = plain(values)
        found = data if at is None else found[:at] + data + found[at + len(data) :]
        return codec, params, found, decoded

    return call


def with_params(encode, **keys):
    """A codec whose parameters are changed; None removes one."""

    def call(values):
        codec, params, found, decoded = encode(values)
        params = {k: v for k, v in {**params, **keys}.items() if v is not None}
        return codec, params, found, decoded

    return call


NEAR = each(bounded, bound=1e-3, taps=POLYNOMIALS[1])
SMALL, LARGE = (n.to_bytes(4, "little") for n in (8, 2**31 - 1))
BLOSC2 = {
    "nbytes": (SMALL, 4), "nbytes-huge": (LARGE, 4), "cbytes": (SMALL, 12), "cbytes-huge": (LARGE, 12),
    "typesize": (b"\x04", 3), "short": (b"\x05\x01\x17\x08",), "filter-plugin": (b"\x20", 16), "filter-second": (b"\x01", 17),
    "coder-plugin": (b"\xa0", 22), "lazy": (b"\x08", 31), "uninitialised": (b"\x40", 31), "dictionary": (b"\x01", 31),
    "nan": (b"\x20", 31), "flags-old": (b"\x81", 2), "format": (b"\x65", 2),
    "parameters": (b"\x01", 23), "parameters-end": (b"\x01", 30), "filter-delta": (b"\x03", 16), "filter-last": (b"\x01", 21),
    "block-zero": (bytes(4), 8), "block-negative": (b"\xff" * 4, 8), "block-huge": (LARGE, 8), "block-one": (b"\x01\x00\x00\x00", 8),
    "starts": (b"\xff" * 4, 32), "starts-negative": (b"\x00\x00\x00\x80", 32), "streams": (b"\xff" * 4, 36),
    "no-data": (b"",), "other-length": (blosc2_chunk(bytes(12 * 8), 8),),
}  # fmt: skip
"""Bytes, and where; without a place instead of the whole chunk."""
PARAMS = {
    "delta": {
        "k-6": {"k": 6}, "k-negative": {"k": -1}, "k-float": {"k": 1.0}, "k-missing": {"k": None},
        "layout": {"layout": "rows"}, "no-layout": {"layout": None},
    },
    "linear": {
        "taps-13": {"taps": [1] * 13}, "tap-large": {"taps": [2**26 + 1]}, "taps-float": {"taps": [1.5]}, "no-taps": {"taps": None},
        "scale-101": {"scale": 101}, "scale-low": {"scale": -101}, "scale-float": {"scale": 1.0}, "no-scale": {"scale": None},
    },
    "bounded": {
        "width-3": {"width": 3}, "width-other": {"width": 8},
        "first-beyond": {"first": 2**40}, "first-negative": {"first": -1}, "first-by-one": {"first": 31}, "largest": {"largest": 2**52 + 1},
        "exceptions-many": {"exceptions": 25}, "exceptions-huge": {"exceptions": 2**60}, "exceptions-one": {"exceptions": 1},
        "no-step": {"step": None}, "step-zero": {"step": 0.0}, "step-negative": {"step": -0.1}, "step-nan": {"step": float("nan")},
        "step-infinite": {"step": float("inf")}, "largest-negative": {"largest": -1},
    },
}  # fmt: skip


def chunks():
    """Codecs, their parameters and bytes."""
    encoders = {
        "codec-unknown": lambda v: ("x-mine", {}, b"12345678", v),
        "codec-number": lambda v: (7, {}, b"12345678", v),
        "raw-short": lambda v: ("raw", {}, v.tobytes()[:-8], v),
        "raw-long": lambda v: ("raw", {}, v.tobytes() + bytes(8), v),
    }
    encoders.update({f"blosc2-{name}": with_bytes(*each) for name, each in BLOSC2.items()})
    for encode, codec in ((delta, "delta"), (linear, "linear"), (NEAR, "bounded")):
        for name, keys in PARAMS[codec].items():
            encoders[f"{codec}-{name}"] = with_params(encode, **keys)
        if codec == "delta":
            encoders["delta-other-length"] = too_short
    encoders["bounded-exception-outside"] = outside
    for name, encode in encoders.items():
        yield name, *without_second(encode)
    for name, keys in {
        "raw-2-40": {"raw": 2**40},
        "raw-negative": {"raw": -192},
        "raw-missing": {"raw": None},
        "size-by-one": {"size": 1},
    }.items():
        yield name, *without_second(change=first_chunk(**keys))


def too_short(values):
    """`delta` of fewer words than there are values."""
    params = {"k": 1, "layout": "frames"}
    return "delta", params, blosc2_chunk(bytes(12 * 8), 8), values


def outside(values):
    """`bounded` with the exception of a value that does not exist."""
    values = values.copy()
    values.reshape(-1)[3] = np.nan
    codec, params, data, decoded = NEAR(values)
    return codec, params, data[:-16] + (24).to_bytes(8, "little") + data[-8:], decoded


def long_map():
    """A map of more than 65 535 bytes, with its checksums right."""
    file = build({"change": changed(later=bytes(2**16))})
    about = "a BLOCK with a map of more than 65 535 bytes"
    return Vector("hostile-long-map", about, "2.2", file, lost(file))
