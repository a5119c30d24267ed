"""Every codec with every parameter."""

import numpy as np

from spec.generator.cases_content import DTYPES
from spec.generator.codecs import (
    POLYNOMIALS,
    bounded,
    delta,
    each,
    linear,
    plain,
    raw,
    stored,
)
from spec.generator.file import File
from spec.generator.records import field
from spec.generator.values import motion, noise
from spec.generator.vector import Vector

LAYOUTS = ("frames", "columns")
QUARTIC = [4 << 16, -6 << 16, 4 << 16, -1 << 16]
FITTED = [131100, -65600, 40, -4]
LONG = [90001, -23000, 1999, -3001, 4003, -5009, 1013, -911, 700, -301, 107, -65]


def cases():
    """All cases of this module."""
    yield raw_codec()
    yield blosc2_codec()
    yield delta_codec()
    yield linear_codec()
    yield linear_zeros()
    yield bounded_codec()
    yield bounded_exceptions()
    yield bounded_large()


def blocks(name, about, fields, plans, values, n_atoms=2):
    """A file with one transaction for each plan: ``values(plan number)`` by field, codecs by field."""
    file, step = File(*fields, n_atoms=n_atoms), 0
    file.commit()
    for number, how in enumerate(plans):
        found = values(number)
        frames = len(next(iter(found.values())))
        file.block(
            {key: (range(step, step + frames), each) for key, each in found.items()}, how
        )
        file.commit()
        step += frames
    file.seal()
    return Vector(f"codec-{name}", about, name, file, file.account.read())


def raw_codec():
    """`raw`."""
    fields = [field("x", "float32", ["atom", 3]), field("flag", "bool", ["atom"])]
    values = lambda i: {
        "x": motion(4, (2, 3), "<f4", start=4 * i),
        "flag": noise((4, 2), "?", i + 1),
    }
    return blocks("raw", "raw chunks", fields, [{}, {"x": raw, "flag": raw}], values)


def blosc2_codec():
    """`blosc2`: coders, filters, special chunks, words of every width."""
    names = ["float64", "float32", "int16", "uint8"]
    fields = [field(f"v_{name}", name, ["atom", 30]) for name in names]
    plans = [
        each(plain, coder=c, filter_name=f)
        for c in ("lz4", "zstd")
        for f in ("none", "shuffle", "bitshuffle")
    ]
    plans += [each(plain, level=0), stored, plain, plain]

    def values(i):
        if i == len(plans) - 1:
            return {
                f["name"]: np.zeros((8, 4, 30), f"<{np.dtype(f['dtype']).str[1:]}")
                for f in fields
            }
        if i == len(plans) - 2:
            return {
                f["name"]: np.full((8, 4, 30), 7, f"<{np.dtype(f['dtype']).str[1:]}")
                for f in fields
            }
        found = {}
        for f in fields:
            path = motion(8, (4, 30), "<f8", start=8 * i)
            found[f["name"]] = (path if f["dtype"][0] == "f" else 5 + np.abs(path)).astype(
                np.dtype(f["dtype"]).newbyteorder("<")
            )
        return found

    about = (
        "blosc2: two coders, three filters, stored as it is, one repeated value, all zeros"
    )
    return blocks(
        "blosc2",
        about,
        fields,
        [{f["name"]: plan for f in fields} for plan in plans],
        values,
        n_atoms=4,
    )


def delta_codec():
    """`delta`: every k, layout and dtype."""
    fields = [field(f"v_{name}", name, ["atom", 3]) for name in DTYPES]
    plans = [each(delta, k=k, layout=layout) for k in range(6) for layout in LAYOUTS]
    plans += [each(delta, k=k, coder="lz4", filter_name="bitshuffle") for k in (0, 5)]

    def values(i):
        frames = 1 + 3 * (i % 4)  # also fewer frames than k
        found = {}
        for n, f in enumerate(fields):
            dtype = np.dtype(f["dtype"]).newbyteorder("<")
            smooth = dtype.kind == "f" and i % 2
            shape = (2, 3)
            found[f["name"]] = (
                motion(frames, shape, dtype, i + 1)
                if smooth
                else noise((frames, *shape), dtype, i + n + 1)
            )
        return found

    return blocks(
        "delta",
        "delta: every k, layout and dtype; also fewer frames than k",
        fields,
        [{f["name"]: p for f in fields} for p in plans],
        values,
    )


def linear_codec():
    """`linear`: taps from none to twelve, both layouts, fewer frames than taps."""
    fields = [
        field("single", "float32", ["atom", 3]),
        field("double", "float64", ["atom", 3]),
    ]
    taps = [[], *POLYNOMIALS[1:], QUARTIC, FITTED, LONG, LONG, LONG, [1 << 26, -(1 << 26)]]
    lengths = [9, 9, 9, 9, 9, 40, 40, 12, 5, 6]
    scales = [None, None, 0, -1, None, 12, None, None, None, None]
    plans = [
        each(linear, taps=t, layout=LAYOUTS[i % 2], scale=s)
        for i, (t, s) in enumerate(zip(taps, scales, strict=True))
    ]
    values = lambda i: {
        "single": motion(lengths[i], (2, 3), "<f4", i + 1),
        "double": motion(lengths[i], (2, 3), "<f8", i + 7),
    }
    return blocks(
        "linear",
        "linear: none to twelve taps, also more than rows; the largest taps",
        fields,
        [{f["name"]: p for f in fields} for p in plans],
        values,
    )


def linear_zeros():
    """`linear` with zeros of both signs: X is an integer, so a prediction of zero is +0."""
    fields = [
        field(f"{n}_{c}", f"float{b}", ["atom", c])
        for n, b in (("single", 32), ("double", 64))
        for c in (1, 2, 40)
    ]
    pattern = np.array(
        [
            [-0.0, -1e-30],
            [-0.0, 0.0],
            [-0.0, -0.0],
            [0.0, -0.0],
            [-0.0, 1.0],
            [-0.0, -0.0],
            [-0.0, -1.0],
            [2.0**-83, -0.0],
            [-0.0, -0.0],
        ]
    )
    edges = np.array(
        [
            [2.0**-83, -(2.0**-83)],
            [2.0**99, -(2.0**99)],
            [-(2.0**99), 1.5],
            [0.0, 2.0**-80],
            [3.0, -0.0],
        ]
    )
    taps = [POLYNOMIALS[1], POLYNOMIALS[2], [], [-65536], POLYNOMIALS[3]]
    rows = [pattern, pattern, pattern, pattern, edges]
    values = lambda i: {
        f["name"]: np.resize(rows[i].T, (f["shape"][1], 1, len(rows[i]))).T.astype(
            f"<{np.dtype(f['dtype']).str[1:]}"
        )
        for f in fields
    }
    found = blocks(
        "linear",
        "",
        fields,
        [{f["name"]: each(linear, taps=t) for f in fields} for t in taps],
        values,
        n_atoms=1,
    )
    found.name, found.about = (
        "codec-linear-zeros",
        "linear: a prediction of zero is +0, whatever the signs of zeros; the smallest and the largest values",
    )
    return found


def bounded_codec():
    """`bounded`: dtypes, taps, layouts, every width of a word, one row."""
    bound = {"half": 2.0**-6, "single": 1e-3, "double": 1e-4}
    fields = [
        field(n, f"float{b}", ["atom", 3], precision=bound[n])
        for n, b in (("half", 16), ("single", 32), ("double", 64))
    ]
    taps = [*POLYNOMIALS, QUARTIC, FITTED, LONG, POLYNOMIALS[2], POLYNOMIALS[2]]
    lengths = [9, 9, 9, 9, 9, 20, 20, 1, 3]
    scale = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 100.0]

    def values(i):
        at = motion(lengths[i], (2, 3), "<f8", i + 1) * scale[i]
        return {"half": at.astype("<f2"), "single": at.astype("<f4"), "double": at * 1e3}

    plans = [
        {n: each(bounded, bound=b, taps=t, layout=LAYOUTS[i % 2]) for n, b in bound.items()}
        for i, t in enumerate(taps)
    ]
    return blocks(
        "bounded", "bounded: dtypes, taps, layouts, widths, one row", fields, plans, values
    )


def bounded_exceptions():
    """Values that are stored exactly: not finite, too large, outside of the bound after rounding."""
    fields = [
        field(n, f"float{b}", ["atom", 2], precision=1e-3)
        for n, b in (("half", 16), ("single", 32), ("double", 64))
    ]
    odd = [
        np.nan,
        np.inf,
        -np.inf,
        1e30,
        -1e30,
        60000.0,
        0.1,
        -0.0,
        3e-4,
        100.3,
        1e13,
        -2e12,
        5e-324,
        12345.678,
        -65504.0,
        9.7656e-4,
    ]

    def values(i):
        with np.errstate(all="ignore"):
            rows = np.array([odd, odd[::-1]] * 2)[:, :: 1 + i].reshape(-1, 2, 2)
            found = {
                n: rows.astype(f"<f{w}")
                for n, w in (("half", 2), ("single", 4), ("double", 8))
            }
        found["single"].view("<u4").reshape(-1)[0] = 0xFFC12345  # a NaN keeps its bits
        return found

    plans = [
        {
            f["name"]: each(
                bounded,
                bound=1e-3,
                taps=POLYNOMIALS[k],
                layout=LAYOUTS[k % 2],
                hidden=hidden,
            )
            for f in fields
        }
        for k, hidden in ((1, 0), (3, 12345))
    ]
    found = blocks("bounded", "", fields, plans, values)
    found.name, found.about = (
        "codec-bounded-exceptions",
        "bounded: NaN, infinities, too large, outside of the bound; any q may hide behind an exception",
    )
    return found


def bounded_large():
    """Grid points near 2^52, where predictions need integers, ties to even, and wrap."""
    bound = 16.0 / 31.0  # the grid is the integers
    top = 2.0**52
    fields = [field("x", "float64", ["atom"], precision=bound)]
    rows = np.array(
        [
            [top, -top],
            [top - 1, 1 - top],
            [-top, top],
            [top - 3, 5.0],
            [3.0, -top],
            [-top, top],
            [top, 0.0],
            [1.0, -1.0],
        ]
    )
    ties = np.array(
        [
            [1.0, 3.0],
            [5.0, 7.0],
            [-1.0, -3.0],
            [-5.0, -7.0],
            [2.0**40 + 1, -(2.0**40) - 1],
            [9.0, -9.0],
        ]
    )
    taps = [
        POLYNOMIALS[2],
        POLYNOMIALS[3],
        [1 << 26, 1 << 26, -(1 << 26)],
        [1 << 15],
        [1 << 15, 1 << 15, 3 << 15],
    ]
    values = lambda i: {"x": (rows if i < 3 else ties)}
    found = blocks(
        "bounded",
        "",
        fields,
        [{"x": each(bounded, bound=bound, taps=t, largest=2**52)} for t in taps],
        values,
    )
    found.name, found.about = (
        "codec-bounded-large",
        "bounded: |q| up to 2^52, sums modulo 2^64, ties to even",
    )
    return found
