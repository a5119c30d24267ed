"""What files can hold: fields, cadences, dtypes, trees."""

import numpy as np

from spec.generator.codecs import delta, linear, plain, raw
from spec.generator.expect import refused
from spec.generator.file import File
from spec.generator.records import field
from spec.generator.values import motion, noise
from spec.generator.vector import Vector

DTYPES = ["float16", "float32", "float64", "bool"]
DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def cases():
    """All cases of this module."""
    yield Vector("empty", "a file without bytes", "2.1", b"", refused("malformed"))
    yield from born()
    yield from atoms()
    yield from cadences()
    yield from many_steps()
    yield special_floats()
    yield every_dtype()
    yield trees()
    yield compressed_trees()
    yield parent()
    yield names()


def born():
    """From nothing to one frame."""
    file = File(field("x"))
    yield Vector(
        "header-only",
        "MAGIC and HEADER, no COMMIT",
        "4",
        file.data[: file.places[1][0]],
        refused("no-commit"),
    )
    yield Vector(
        "no-commit", "everything but the first COMMIT", "4", file.data, refused("no-commit")
    )
    file.commit()
    yield Vector("created", "no frames yet", "2", file, file.account.read())
    file = File(field("x", unit="eV"))
    file.commit()
    file.block({"x": ([7], np.array([0.1]))})
    file.commit()
    yield Vector("one-frame", "one frame at step 7", "2.6", file, file.account.read())


def atoms():
    """Small numbers of atoms, tiles of atoms, a cell that varies."""
    fields = (
        field("positions", "float32", ["atom", 3], "Å"),
        field("energy", "float64", [], "eV"),
    )
    for n in (0, 1, 3):
        file = File(*fields, n_atoms=n)
        file.commit()
        for first in (0, 5):
            steps = range(first, first + 5)
            places = motion(5, (n, 3), "<f4", seed=n + 2, start=first)
            file.block(
                {"positions": (steps, places), "energy": (steps, noise(5, seed=first + 1))},
                {"positions": delta},
            )
            file.commit()
        file.seal()
        about = f"{n} atoms" + ("; a field without bytes has no chunk" if n == 0 else "")
        yield Vector(f"atoms-{n}", about, "2.6", file, file.account.read())
    file = File(*fields[:1], field("grid", "int16", [5, 2]), n_atoms=7)
    file.commit()
    samples = {
        "positions": (range(6), motion(6, (7, 3), "<f4")),
        "grid": (range(6), noise((6, 5, 2), "<i2")),
    }
    file.block(
        samples,
        {"positions": delta},
        {
            "tiles": {"positions": [0, 3, 4, 7]},
            "cuts": {"positions": [0, 2, 6], "grid": [0, 1, 5, 6]},
        },
    )
    file.commit()
    yield Vector(
        "tiles", "chunks of some atoms and some samples", "2.6", file, file.account.read()
    )
    file = File(
        field("positions", "float32", ["atom", 3], "Å", every=2),
        field("cell", "float64", [3, 3], "Å"),
        n_atoms=2,
    )
    file.commit()
    cell = 8.0 * np.eye(3) + noise((9, 3, 3)) / 8
    file.block(
        {"positions": (range(0, 9, 2), motion(5, (2, 3), "<f4")), "cell": (range(9), cell)},
        {"positions": linear},
    )
    file.commit()
    yield Vector("variable-cell", "the cell is a field", "2.6", file, file.account.read())


def cadences():
    """Fields due at different steps."""
    fields = [
        field("positions", "float32", ["atom", 3], "Å", every=10),
        field("heat_flux", "float64", [3], "eV Å/fs", every=2),
        field("late", "int32", [], every=10, offset=3),
        field("event", "uint8", [], every=None),
        field("other", "uint8", [], every=None),
        field(
            "energy",
            "float64",
            [],
            "eV",
            every=2,
            attributes={"gauge": "none", "n": 3, "x": 0.5, "b": True},
        ),
    ]
    file = File(*fields)
    file.commit()
    for first in (0, 40, 57):
        end = first + 40 if first == 0 else first + 17
        due = {
            f["name"]: [
                s for s in range(first, end) if f["every"] and s % f["every"] == f["offset"]
            ]
            for f in fields
        }
        due.update(
            event=[s for s in (1, 2, 4, 30, 31, 57, 58) if first <= s < end], other=[]
        )
        shapes = {"positions": (2, 3), "heat_flux": (3,)}
        dtypes = {f["name"]: np.dtype(f["dtype"]).newbyteorder("<") for f in fields}
        samples = {
            n: (s, noise((len(s), *shapes.get(n, ())), dtypes[n], first + 1))
            for n, s in due.items()
        }
        file.block({name: each for name, each in samples.items() if len(each[0])})
        file.commit()
    yield Vector(
        "mixed-cadences",
        "every, offset, irregular; one irregular field without any sample",
        "2.4",
        file,
        file.account.read(),
    )


def many_steps():
    """More than 256 runs; the largest step."""
    steps = np.cumsum(1 + noise(400, "<u8") % 3)
    file = File(field("x", every=None), field("y", "int8", every=7, offset=6))
    file.commit()
    samples = {
        "x": (steps, noise(400)),
        # every frame at a step where y is due has a sample of it
        "y": ([s for s in range(784) if s % 7 == 6], noise(112, "i1")),
    }
    file.block(samples, options={"steps_chunk": {0: delta}})
    file.commit()
    later = {"x": (steps + 1000, noise(400)), "y": (range(1000, 1799, 7), noise(115, "i1"))}
    for encode in (raw, plain):
        later = {
            name: (np.asarray(at) + 1001, values) for name, (at, values) in later.items()
        }
        file.block(later, options={"steps_chunk": {0: encode, 1: encode}})
        file.commit()
    yield Vector(
        "many-runs",
        "steps in chunks of int64: delta, raw, blosc2",
        "2.6",
        file,
        file.account.read(),
    )
    file = File(field("x"))
    file.commit()
    top = 2**62 - 1
    file.block({"x": ([0, top], np.array([1.0, 2.0]))})
    file.commit()
    yield Vector("last-step", "the largest step", "1", file, file.account.read())


def special_floats():
    """NaN with payloads, both zeros, subnormals, infinities, in every lossless codec."""
    fields, samples, how = [], {}, {}
    for width, word in ((2, "<u2"), (4, "<u4"), (8, "<u8")):
        sign = 1 << (8 * width - 1)
        top = int(np.array(np.inf, f"<f{width}").view(word))
        magnitudes = [
            0,
            1,
            2,
            top >> 1,
            top - 1,
            top,
            top + 1,
            (top | (top >> 1)) + 5,
            sign - 1,
        ]
        words = np.array([m | s for m in magnitudes for s in (0, sign)], word).view(
            f"<f{width}"
        )
        for codec in ("raw", "blosc2", "delta"):
            name = f"{codec}_{8 * width}"
            fields.append(field(name, f"float{8 * width}", ["atom"]))
            samples[name] = (range(9), words.reshape(9, 2))
            if codec != "raw":
                how[name] = delta if codec == "delta" else plain
    file = File(*fields)
    file.commit()
    file.block(samples, how)
    file.commit()
    return Vector(
        "special-floats",
        "NaN with payloads, signed zeros, subnormals, infinities: bit for bit",
        "5",
        file,
        file.account.read(),
    )


def every_dtype():
    """Each dtype as a small and as a per-atom field."""
    fields = [
        field(f"{kind}_{name}", name, shape)
        for kind, shape in (("small", []), ("atoms", ["atom", 2]))
        for name in DTYPES
    ]
    file = File(*fields, n_atoms=3)
    file.commit()
    samples = {}
    for i, each_field in enumerate(fields):
        shape = (4, 3, 2) if each_field["shape"] else (4,)
        samples[each_field["name"]] = (
            range(4),
            noise(shape, np.dtype(each_field["dtype"]).newbyteorder("<"), i + 1),
        )
    file.block(samples)
    file.commit()
    file.seal()
    return Vector(
        "every-dtype",
        "every dtype, as a small field and per atom; SCALARS holds the small ones",
        "2.4",
        file,
        file.account.read(),
    )


def trees():
    """Everything that METADATA and CHECKPOINT can hold."""
    deep = {"end": 1}
    for _ in range(29):
        deep = {"in": deep}
    many = {
        "nothing": None, "yes": True, "no": False, "small": -1, "large": 2**64 - 1, "low": -(2**63),
        "float": 0.1, "nan": float("nan"), "inf": float("inf"), "minus": -float("inf"), "text": "ℏω → κ",
        "long": "äß" * 600, "bytes": b"\x00\xff", "long_bytes": bytes(range(256)) * 5, "list": [1, "a", None, [2.5]],
        "empty": {}, "none": [], "map": {"ä": {"b": [{"c": 1}]}}, "deep": deep, "scalar": np.array(2.5),
        "no_values": np.empty((0, 3), "<f4"), "flags": np.array([True, False]), "shape": np.arange(6, dtype="<i2").reshape(1, 2, 3),
    }  # fmt: skip
    many.update(
        {
            f"of_{name}": noise((2, 2), np.dtype(name).newbyteorder("<"), 5)
            for name in DTYPES
        }
    )
    file = File(
        field("x"),
        metadata={**many, "masses": np.array([28.085, 15.999]), "cell": 5.0 * np.eye(3)},
    )
    file.commit()
    for step in (3, 9, 12):
        file.block({"x": ([step], np.array([1.0]))})
        state = {
            "positions": noise((2, 3), seed=step),
            "nested": {"a": [noise(3), {"b": b"\x01" * 1500}]},
            "name": "x" * 1025,
        }
        file.checkpoint(step, state)
        file.commit()
    file.checkpoint(12, {"again": True})
    file.commit()
    return Vector(
        "trees",
        "every kind of value in METADATA; three checkpoints, the last without a BLOCK",
        "2.5",
        file,
        file.account.read(),
    )


def compressed_trees():
    """Trees whose chunks have another codec than raw."""

    class Unusual(File):
        """A file with trees in delta."""

        tree_codec = staticmethod(delta)

    file = Unusual(
        field("x"),
        metadata={"cell": 5.0 * np.eye(3), "text": "äß" * 600, "none": np.empty((0, 2))},
    )
    file.commit()
    file.block({"x": ([3], np.array([1.0]))})
    file.checkpoint(3, {"positions": noise((2, 3)), "bytes": bytes(range(256)) * 5})
    file.commit()
    return Vector(
        "trees-compressed",
        "chunks of METADATA and CHECKPOINT by delta",
        "2.5",
        file,
        file.account.read(),
    )


def parent():
    """A file that continues another."""
    header = {"parent": {"uuid": "b0" * 16, "digest": "0123456789abcdef" * 4, "step": 1000}}
    file = File(field("x"), header=header)
    file.commit()
    file.block({"x": ([1001], np.array([1.0]))})
    file.commit()
    return Vector(
        "parent",
        "HEADER names the file that this one continues",
        "2.3",
        file,
        file.account.read(),
    )


def names():
    """Names that some language may find odd."""
    fields = [
        field(name, "int8")
        for name in (
            "time",
            "step",
            "index",
            "fields",
            "_",
            "A1",
            "class",
            "def",
            "x" * 200,
        )
    ]
    file = File(*fields)
    file.commit()
    file.block({f["name"]: ([0], np.array([i], "i1")) for i, f in enumerate(fields)})
    file.commit()
    return Vector(
        "odd-names",
        "names of fields that are words of some language",
        "2.4",
        file,
        file.account.read(),
    )
