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
    return Vector(
        name,
        about,
        spec,
        file,
        variants=[("sound", file.data, file.account.read()), *variants],
    )


def build(second=None, how=delta, middle=None, third=None, **more):
    """Three transactions of one block; `second` are options of the second, `middle` is called in it."""
    file = File(FIELD, **more)
    file.commit()
    for i in range(3):
        values = motion(6, (2, 2), start=6 * i)
        options = second or {} if i == 1 else {}
        if i == 1 and middle:
            middle(file)
        file.block(
            {"x": (range(6 * i, 6 * i + 6), values)},
            {"x": how if i == 1 else delta},
            **options,
        )
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
    for name, change in changes.items():
        file = build({"change": change})
        yield name, file.data, lost(file)
    for name, packed in (
        ("map-bomb", BOMB[:-1] * 7 + b"\xc0"),
        ("map-cut", b"\x85\xa1a"),
        ("map-no-map", b"\x93\x01\x02\x03"),
        ("map-length", b"\xdf\xff\xff\xff\xff"),
        ("map-empty", b""),
        ("map-array-length", b"\x81\xa1a\xdd\xff\xff\xff\xff"),
        ("map-bin-length", b"\x81\xa1a\xc6\xff\xff\xff\xff"),
        ("map-text-length", b"\x81\xa1a\xdb\xff\xff\xff\xff"),
        ("map-ext-length", b"\x81\xa1a\xc9\xff\xff\xff\xff\x01"),
        ("map-no-utf8", b"\x81\xa1\xff\x01"),
        ("map-reserved", b"\x81\xa1a\xc1"),
    ):
        file = build({"change": lambda _, packed=packed: packed})
        yield name, file.data, lost(file)
    for name, behind in (("map-behind", b"\x01"), ("map-key-integer", None)):
        file = build({"change": lambda m, behind=behind: spoiled(m, behind)})
        yield name, file.data, lost(file)


def spoiled(content, behind):
    """A map with bytes behind it, or with a key that is no text."""
    return pack(content) + behind if behind else pack({**content, 7: 1})


def patched(encode, offset, data):
    """A codec whose bytes are changed at a place."""

    def call(values):
        codec, params, found, decoded = encode(values)
        return codec, params, found[:offset] + data + found[offset + len(data) :], decoded

    return call


def with_params(encode, **keys):
    """A codec whose parameters are changed; None removes one."""

    def call(values):
        codec, params, found, decoded = encode(values)
        return (
            codec,
            {k: v for k, v in {**params, **keys}.items() if v is not None},
            found,
            decoded,
        )

    return call


def chunks():
    """Codecs, their parameters and bytes."""
    near = each(bounded, bound=1e-3, taps=POLYNOMIALS[1])
    small, large = (n.to_bytes(4, "little") for n in (8, 2**31 - 1))
    other = lambda values: (
        "delta",
        {"k": 1, "layout": "frames"},
        blosc2_chunk(bytes(12 * 8), 8),
        values,
    )
    encoders = {
        "codec-unknown": lambda v: ("x-mine", {}, b"12345678", v),
        "codec-number": lambda v: (7, {}, b"12345678", v),
        "raw-short": lambda v: ("raw", {}, v.tobytes()[:-8], v),
        "raw-long": lambda v: ("raw", {}, v.tobytes() + bytes(8), v),
        "blosc2-nbytes": patched(plain, 4, small), "blosc2-nbytes-huge": patched(plain, 4, large),
        "blosc2-cbytes": patched(plain, 12, small), "blosc2-cbytes-huge": patched(plain, 12, large),
        "blosc2-typesize": patched(plain, 3, b"\x04"), "blosc2-short": lambda v: ("blosc2", {}, b"\x05\x01\x17\x08", v),
        "blosc2-filter-plugin": patched(plain, 16, b"\x20"), "blosc2-filter-second": patched(plain, 17, b"\x01"),
        "blosc2-coder-plugin": patched(plain, 22, b"\xa0"), "blosc2-lazy": patched(plain, 31, b"\x08"),
        "blosc2-uninitialised": patched(plain, 31, b"\x40"), "blosc2-dictionary": patched(plain, 31, b"\x01"),
        "blosc2-nan": patched(plain, 31, b"\x20"),
        "blosc2-flags-old": patched(plain, 2, b"\x81"), "blosc2-format": patched(plain, 2, b"\x65"),
        "blosc2-parameters": patched(plain, 23, b"\x01"), "blosc2-parameters-end": patched(plain, 30, b"\x01"),
        "blosc2-filter-delta": patched(plain, 16, b"\x03"), "blosc2-filter-last": patched(plain, 21, b"\x01"),
        "blosc2-block-zero": patched(plain, 8, bytes(4)), "blosc2-block-negative": patched(plain, 8, b"\xff" * 4),
        "blosc2-block-huge": patched(plain, 8, large), "blosc2-block-one": patched(plain, 8, b"\x01\x00\x00\x00"),
        "blosc2-starts": patched(plain, 32, b"\xff" * 4), "blosc2-starts-negative": patched(plain, 32, b"\x00\x00\x00\x80"),
        "blosc2-streams": patched(plain, 36, b"\xff" * 4), "blosc2-no-data": lambda v: ("blosc2", {}, b"", v),
        "blosc2-other-length": lambda v: ("blosc2", {}, blosc2_chunk(bytes(12 * 8), 8), v),
        "delta-k-6": with_params(delta, k=6), "delta-k-negative": with_params(delta, k=-1),
        "delta-k-float": with_params(delta, k=1.0), "delta-k-missing": with_params(delta, k=None),
        "delta-layout": with_params(delta, layout="rows"), "delta-no-layout": with_params(delta, layout=None),
        "delta-other-length": other,
        "linear-taps-13": with_params(linear, taps=[1] * 13), "linear-tap-large": with_params(linear, taps=[2**26 + 1]),
        "linear-taps-float": with_params(linear, taps=[1.5]), "linear-no-taps": with_params(linear, taps=None),
        "linear-scale-101": with_params(linear, scale=101), "linear-scale-low": with_params(linear, scale=-101),
        "linear-scale-float": with_params(linear, scale=1.0), "linear-no-scale": with_params(linear, scale=None),
        "bounded-width-3": with_params(near, width=3), "bounded-width-other": with_params(near, width=8),
        "bounded-first-beyond": with_params(near, first=2**40), "bounded-first-negative": with_params(near, first=-1),
        "bounded-first-by-one": with_params(near, first=31), "bounded-largest": with_params(near, largest=2**52 + 1),
        "bounded-exceptions-many": with_params(near, exceptions=25), "bounded-exceptions-huge": with_params(near, exceptions=2**60),
        "bounded-exceptions-one": with_params(near, exceptions=1), "bounded-no-step": with_params(near, step=None),
        "bounded-step-zero": with_params(near, step=0.0), "bounded-step-negative": with_params(near, step=-0.1),
        "bounded-step-nan": with_params(near, step=float("nan")), "bounded-step-infinite": with_params(near, step=float("inf")), "bounded-largest-negative": with_params(near, largest=-1),
    }  # fmt: skip

    def outside(values):
        values = values.copy()
        values.reshape(-1)[3] = np.nan
        codec, params, data, decoded = near(values)
        return codec, params, data[:-16] + (24).to_bytes(8, "little") + data[-8:], decoded

    encoders["bounded-exception-outside"] = outside
    for name, encode in encoders.items():
        file = build(how=encode)
        yield name, file.data, lost(file)
    for name, keys in (
        ("raw-2-40", {"raw": 2**40}),
        ("raw-negative", {"raw": -192}),
        ("raw-missing", {"raw": None}),
        ("size-by-one", {"size": 1}),
    ):
        file = build({"change": first_chunk(**keys)})
        yield name, file.data, lost(file)


def long_map():
    """A map of more than 65 535 bytes, with its checksums right."""
    file = build({"change": lambda content: {**content, "later": bytes(2**16)}})
    return Vector(
        "hostile-long-map",
        "a BLOCK with a map of more than 65 535 bytes",
        "2.2",
        file,
        lost(file),
    )
