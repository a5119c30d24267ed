"""The codecs of ``spec/registry.md``, value by value.

`encode` returns codec, params, bytes, and the values that a reader must return.
"""

import struct
from fractions import Fraction
from functools import partial
from math import isfinite

import blosc2
import numpy as np

TWO_64 = 1 << 64
POLYNOMIALS = [[], [1 << 16], [2 << 16, -1 << 16], [3 << 16, -3 << 16, 1 << 16]]
FILTERS = {
    "none": blosc2.Filter.NOFILTER,
    "shuffle": blosc2.Filter.SHUFFLE,
    "bitshuffle": blosc2.Filter.BITSHUFFLE,
}
CODERS = {"lz4": blosc2.Codec.LZ4, "zstd": blosc2.Codec.ZSTD}


def blosc2_chunk(data, width, coder="zstd", filter_name="shuffle", level=5):
    """One blosc2 chunk, with words of `width` bytes."""
    return blosc2.compress2(
        bytes(data),
        codec=CODERS[coder],
        clevel=level,
        typesize=width,
        nthreads=1,
        filters=[FILTERS[filter_name]],
        filters_meta=[0],
    )


def zigzag(value, width):
    """The word of a signed integer."""
    return ((value << 1) ^ (value >> (8 * width - 1))) % (1 << 8 * width)


def wrap(value, width):
    """An integer modulo 2^(8 width), as a signed one."""
    value %= 1 << 8 * width
    return value - (1 << 8 * width) if value >> (8 * width - 1) else value


def to_order(word, width, kind):
    """Step 3 of `delta` backwards: the bits of a value as an ordered signed integer."""
    signed = wrap(word, width)
    if kind == "f" and signed < 0:
        signed ^= (1 << (8 * width - 1)) - 1
    return signed


def words_of(values):
    """The bits of values in rows of Python integers."""
    width = values.dtype.itemsize
    return values.reshape(len(values), -1).view(f"<u{width}").astype(object)


def pack_words(rows, width, layout, **options):
    """Words in rows (lists of integers) as a blosc2 chunk; none are no bytes."""
    if not rows:
        return b""
    table = np.array(rows, dtype=np.uint64).astype(f"<u{width}")
    table = table if layout == "frames" else table.T
    return blosc2_chunk(np.ascontiguousarray(table).tobytes(), width, **options)


def raw(values):
    """`raw`."""
    return "raw", {}, values.tobytes(), values


def plain(values, coder="zstd", filter_name="shuffle", level=5):
    """`blosc2`."""
    data = blosc2_chunk(values.tobytes(), values.dtype.itemsize, coder, filter_name, level)
    return "blosc2", {}, data, values


def stored(values):
    """`blosc2`, made by hand: a chunk that holds its bytes as they are."""
    data, width = values.tobytes(), values.dtype.itemsize
    head = struct.pack(
        "<BBBBiii", 5, 1, 0x2 | 0x5 | 0x10, width, len(data), len(data), len(data) + 32
    )
    return (
        "blosc2",
        {},
        head + struct.pack("<6sBB6sBB", bytes(6), 5, 0, bytes(6), 0, 0) + data,
        values,
    )


def delta(values, k=1, layout="frames", **options):
    """`delta`: the k-th difference of ordered integers."""
    width, kind = values.dtype.itemsize, values.dtype.kind
    rows = [[to_order(int(w), width, kind) for w in row] for row in words_of(values)]
    for done in range(k):
        for t in range(len(rows) - 1, done, -1):
            rows[t] = [
                wrap(a - b, width) for a, b in zip(rows[t], rows[t - 1], strict=True)
            ]
    words = [[zigzag(d, width) for d in row] for row in rows]
    return (
        "delta",
        {"k": k, "layout": layout},
        pack_words(words, width, layout, **options),
        values,
    )


def taps_at(t, taps):
    """The taps that predict row t."""
    return taps if t >= len(taps) else POLYNOMIALS[min(t, 3)]


def largest_scale(values, taps):
    """The largest s for which every prediction is exact in float64."""
    weight = max(sum(map(abs, taps)), 8 << 16)
    most = max(Fraction(abs(float(x))) for x in values.reshape(-1))
    return next(
        s for s in range(100, -101, -1) if round(most * Fraction(2) ** s) * weight < 2**52
    )


def linear(values, taps=POLYNOMIALS[2], layout="frames", scale=None, **options):
    """`linear`: what a prediction from integers gets wrong, as bit patterns."""
    width, rows = values.dtype.itemsize, values.reshape(len(values), -1)
    scale = largest_scale(values, taps) if scale is None else scale
    two = Fraction(2) ** scale
    whole = [[round(Fraction(float(x)) * two) for x in row] for row in rows]  # ties to even
    words = []
    for t, row in enumerate(words_of(values)):
        line = []
        for column, word in enumerate(row):
            total = sum(
                tap * whole[t - j][column] for j, tap in enumerate(taps_at(t, taps), 1)
            )
            with np.errstate(over="ignore"):
                guess = np.float64(float(Fraction(total, 65536) / two)).astype(values.dtype)
            line.append(
                zigzag(wrap(int(word) - int(guess.view(f"<u{width}")), width), width)
            )
        words.append(line)
    params = {"taps": taps, "layout": layout, "scale": scale}
    return "linear", params, pack_words(words, width, layout, **options), values


def grid(values, bound):
    """Grid points: q and x' of each value in flat order; q is None for an exception."""
    step = 2.0 * bound * (31.0 / 32.0)
    found = []
    for x in values.reshape(-1):
        q = None
        if isfinite(x):
            with np.errstate(all="ignore"):
                near = (
                    np.rint(np.float64(x) * np.float64(1.0 / step)) + 0.0
                )  # an integer: no -0
                back = np.float64(near * step).astype(values.dtype)
            if abs(near) <= 2**52 and abs(np.float64(back) - np.float64(x)) <= bound:
                q = int(near)
        found.append((q, back if q is not None else x))
    return step, found


def bounded(
    values,
    bound,
    taps=POLYNOMIALS[2],
    layout="frames",
    width=None,
    largest=None,
    hidden=0,
    **options,
):
    """`bounded`: predicted grid points; `hidden` is q where an exception is."""
    frames, dtype = len(values), values.dtype
    step, found = grid(values, bound)
    decoded = np.array([x for _, x in found], dtype).reshape(values.shape)
    q = np.array([hidden if n is None else n for n, _ in found], object).reshape(frames, -1)
    words = []
    for t in range(frames):
        use = taps_at(t, taps)
        line = []
        for column in range(q.shape[1]):
            total = wrap(sum(tap * q[t - j, column] for j, tap in enumerate(use, 1)), 8)
            guess = round(Fraction(total, 65536))  # ties to even
            line.append(zigzag(wrap(q[t, column] - guess, 8), 8))
        words.append(line)
    most = max((w for row in words[1:] for w in row), default=0)
    width = width or next(w for w in (1, 2, 4, 8) if most < 1 << 8 * w)
    places = [i for i, (n, _) in enumerate(found) if n is None]
    first = pack_words(words[:1], 8, "frames", filter_name="bitshuffle")
    data = pack_words(words[1:], width, layout, **options) + first
    data += np.array(places, "<u8").tobytes() + values.reshape(-1)[places].tobytes()
    params = {
        "taps": taps,
        "layout": layout,
        "step": step,
        "largest": max([abs(int(n)) for n in q.flat] + [0]) if largest is None else largest,
        "width": width,
        "first": len(first),
        "exceptions": len(places),
    }
    return "bounded", params, data, decoded


def each(function, **options):
    """A codec with options, to be called with values."""
    return partial(function, **options)
