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
from spec.generator.values import little, motion, noise, noise_of
from spec.generator.vector import Vector

LAYOUTS = ("frames", "columns")
FLOATS = {"half": "float16", "single": "float32", "double": "float64"}
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


def case(name, about, fields, plans, n_atoms=2):
    """A file with one transaction for each plan.

    Args:
        name: the codec, and what is special.
        about: of the vector.
        fields: of the file.
        plans: pairs of a codec, or a map of codecs by field, and values by field.
        n_atoms: of the file.
    """
    file, step = File.created(*fields, n_atoms=n_atoms), 0
    for how, values in plans:
        steps = range(step, step + len(next(iter(values.values()))))
        how = how if isinstance(how, dict) else dict.fromkeys(values, how)
        file.transaction({key: (steps, value) for key, value in values.items()}, how)
        step = steps.stop
    file.seal()
    return Vector(f"codec-{name}", about, name.partition("-")[0], file)


def raw_codec():
    """`raw`."""
    fields = [field("x", "float32", ["atom", 3]), field("flag", "bool", ["atom"])]
    values = [
        {"x": motion(4, (2, 3), "<f4", start=4 * i), "flag": noise((4, 2), "?", i + 1)}
        for i in range(2)
    ]
    return case("raw", "raw chunks", fields, [({}, values[0]), (raw, values[1])])


def blosc2_codec():
    """`blosc2`: coders, filters, special chunks, words of every width."""
    names = ["float64", "float32", "int16", "uint8"]
    dtypes = {f"v_{name}": little(name) for name in names}
    coders = [
        each(plain, coder=coder, filter_name=filter_name)
        for coder in ("lz4", "zstd")
        for filter_name in ("none", "shuffle", "bitshuffle")
    ]

    def moving(i):
        path = motion(8, (4, 30), "<f8", start=8 * i)
        whole = 5 + np.abs(path)
        return {k: (path if d.kind == "f" else whole).astype(d) for k, d in dtypes.items()}

    def constant(value):
        return {key: np.full((8, 4, 30), value, dtype) for key, dtype in dtypes.items()}

    plans = [
        (codec, moving(i))
        for i, codec in enumerate([*coders, each(plain, level=0), stored])
    ]
    return case(
        "blosc2",
        "blosc2: two coders, three filters, stored as it is, one repeated value, all zeros",
        [field(f"v_{name}", name, ["atom", 30]) for name in names],
        [*plans, (plain, constant(7)), (plain, constant(0))],
        n_atoms=4,
    )


def delta_codec():
    """`delta`: every k, layout and dtype."""
    fields = [field(f"v_{name}", name, ["atom", 3]) for name in DTYPES]
    codecs = [each(delta, k=k, layout=layout) for k in range(6) for layout in LAYOUTS]
    codecs += [each(delta, k=k, coder="lz4", filter_name="bitshuffle") for k in (0, 5)]

    def values(i):
        frames, found = 1 + 3 * (i % 4), {}  # also fewer frames than k
        for n, f in enumerate(fields):
            dtype = little(f["dtype"])
            smooth = dtype.kind == "f" and i % 2
            rough = noise_of(f, frames, seed=i + n + 1)
            found[f["name"]] = motion(frames, (2, 3), dtype, i + 1) if smooth else rough
        return found

    return case(
        "delta",
        "delta: every k, layout and dtype; also fewer frames than k",
        fields,
        [(codec, values(i)) for i, codec in enumerate(codecs)],
    )


def linear_codec():
    """`linear`: taps from none to twelve, both layouts, fewer frames than taps."""
    table = (  # taps, scale, frames
        ([], None, 9),
        (POLYNOMIALS[1], None, 9),
        (POLYNOMIALS[2], 0, 9),
        (POLYNOMIALS[3], -1, 9),
        (QUARTIC, None, 9),
        (FITTED, 12, 40),
        (LONG, None, 40),
        (LONG, None, 12),
        (LONG, None, 5),
        ([1 << 26, -(1 << 26)], None, 6),
    )
    plans = [
        (
            each(linear, taps=taps, layout=LAYOUTS[i % 2], scale=scale),
            {
                "single": motion(frames, (2, 3), "<f4", i + 1),
                "double": motion(frames, (2, 3), "<f8", i + 7),
            },
        )
        for i, (taps, scale, frames) in enumerate(table)
    ]
    return case(
        "linear",
        "linear: none to twelve taps, also more than rows; the largest taps",
        [field(name, FLOATS[name], ["atom", 3]) for name in ("single", "double")],
        plans,
    )


def linear_zeros():
    """`linear` with zeros of both signs: X is an integer, so a prediction of zero is +0."""
    fields = [
        field(f"{name}_{columns}", FLOATS[name], ["atom", columns])
        for name in ("single", "double")
        for columns in (1, 2, 40)
    ]
    signs = np.array(
        [
            [-0.0, -1e-30], [-0.0, 0.0], [-0.0, -0.0], [0.0, -0.0], [-0.0, 1.0],
            [-0.0, -0.0], [-0.0, -1.0], [2.0**-83, -0.0], [-0.0, -0.0],
        ]
    )  # fmt: skip
    edges = np.array(
        [
            [2.0**-83, -(2.0**-83)], [2.0**99, -(2.0**99)], [-(2.0**99), 1.5],
            [0.0, 2.0**-80], [3.0, -0.0],
        ]
    )  # fmt: skip

    def repeated(rows, f):
        columns = np.resize(rows.T, (f["shape"][1], 1, len(rows)))
        return columns.T.astype(little(f["dtype"]))

    table = (
        (POLYNOMIALS[1], signs),
        (POLYNOMIALS[2], signs),
        ([], signs),
        ([-65536], signs),
        (POLYNOMIALS[3], edges),
    )
    return case(
        "linear-zeros",
        "linear: a prediction of zero is +0, whatever the signs of zeros; the smallest and the largest values",
        fields,
        [
            (each(linear, taps=taps), {f["name"]: repeated(rows, f) for f in fields})
            for taps, rows in table
        ],
        n_atoms=1,
    )


def bounded_codec():
    """`bounded`: dtypes, taps, layouts, every width of a word, one row."""
    bounds = {"half": 2.0**-6, "single": 1e-3, "double": 1e-4}
    table = (  # taps, frames, size of the motion
        (POLYNOMIALS[0], 9, 1.0),
        (POLYNOMIALS[1], 9, 1.0),
        (POLYNOMIALS[2], 9, 1.0),
        (POLYNOMIALS[3], 9, 1.0),
        (QUARTIC, 9, 1.0),
        (FITTED, 20, 1.0),
        (LONG, 20, 1.0),
        (POLYNOMIALS[2], 1, 1.0),
        (POLYNOMIALS[2], 3, 100.0),
    )
    plans = []
    for i, (taps, frames, size) in enumerate(table):
        codec = each(bounded, taps=taps, layout=LAYOUTS[i % 2])
        at = motion(frames, (2, 3), "<f8", i + 1) * size
        values = {"half": at.astype("<f2"), "single": at.astype("<f4"), "double": at * 1e3}
        plans.append(({n: each(codec, bound=b) for n, b in bounds.items()}, values))
    return case(
        "bounded",
        "bounded: dtypes, taps, layouts, widths, one row",
        [field(n, FLOATS[n], ["atom", 3], precision=b) for n, b in bounds.items()],
        plans,
    )


def bounded_exceptions():
    """Values that are stored exactly: not finite, too large, outside of the bound after rounding."""
    odd = [
        np.nan, np.inf, -np.inf, 1e30, -1e30, 60000.0, 0.1, -0.0,
        3e-4, 100.3, 1e13, -2e12, 5e-324, 12345.678, -65504.0, 9.7656e-4,
    ]  # fmt: skip

    def values(stride):
        rows = np.array([odd, odd[::-1]] * 2)[:, ::stride].reshape(-1, 2, 2)
        with np.errstate(all="ignore"):
            found = {name: rows.astype(little(dtype)) for name, dtype in FLOATS.items()}
        found["single"].view("<u4").reshape(-1)[0] = 0xFFC12345  # a NaN keeps its bits
        return found

    codec = each(bounded, bound=1e-3)
    return case(
        "bounded-exceptions",
        "bounded: NaN, infinities, too large, outside of the bound; any q may hide behind an exception",
        [field(n, dtype, ["atom", 2], precision=1e-3) for n, dtype in FLOATS.items()],
        [
            (each(codec, taps=POLYNOMIALS[1], layout="columns", hidden=0), values(1)),
            (each(codec, taps=POLYNOMIALS[3], layout="columns", hidden=12345), values(2)),
        ],
    )


def bounded_large():
    """Grid points near 2^52, where predictions need integers, ties to even, and wrap."""
    bound = 16.0 / 31.0  # the grid is the integers
    top = 2.0**52
    rows = np.array(
        [
            [top, -top], [top - 1, 1 - top], [-top, top], [top - 3, 5.0],
            [3.0, -top], [-top, top], [top, 0.0], [1.0, -1.0],
        ]
    )  # fmt: skip
    ties = np.array(
        [
            [1.0, 3.0], [5.0, 7.0], [-1.0, -3.0], [-5.0, -7.0],
            [2.0**40 + 1, -(2.0**40) - 1], [9.0, -9.0],
        ]
    )  # fmt: skip
    table = (
        (POLYNOMIALS[2], rows),
        (POLYNOMIALS[3], rows),
        ([1 << 26, 1 << 26, -(1 << 26)], rows),
        ([1 << 15], ties),
        ([1 << 15, 1 << 15, 3 << 15], ties),
    )
    codec = each(bounded, bound=bound, largest=2**52)
    return case(
        "bounded-large",
        "bounded: |q| up to 2^52, sums modulo 2^64, ties to even",
        [field("x", "float64", ["atom"], precision=bound)],
        [(each(codec, taps=taps), {"x": values}) for taps, values in table],
    )
