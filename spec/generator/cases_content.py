"""What files can hold: fields, cadences, dtypes, trees."""

import numpy as np

from spec.generator.codecs import delta, linear, plain, raw
from spec.generator.expect import refused
from spec.generator.file import File
from spec.generator.records import field
from spec.generator.values import deep, little, motion, noise, noise_of
from spec.generator.vector import Vector

DTYPES = ["float16", "float32", "float64", "bool"]
DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def cases():
    """All cases of this module."""
    yield Vector("empty", "a file without bytes", "2.1", b"", refused("malformed"))
    yield from born()
    for n_atoms in (0, 1, 3):
        yield atoms(n_atoms)
    yield tiles()
    yield variable_cell()
    yield cadences()
    yield many_runs()
    yield last_step()
    yield special_floats()
    yield every_dtype()
    yield trees()
    yield compressed_trees()
    yield parent()
    yield names()


def born():
    """From nothing to one frame."""
    file, no = File(field("x")), refused("no-commit")
    header = file.data[: file.places[1][0]]
    yield Vector("header-only", "MAGIC and HEADER, no COMMIT", "4", header, no)
    yield Vector("no-commit", "everything but the first COMMIT", "4", file.data, no)
    file.commit()
    yield Vector("created", "no frames yet", "2", file)
    file = File.created(field("x", unit="eV"))
    file.transaction({"x": ([7], np.array([0.1]))})
    yield Vector("one-frame", "one frame at step 7", "2.6", file)


def atoms(n):
    """Small numbers of atoms."""
    fields = [
        field("positions", "float32", ["atom", 3], "Å"),
        field("energy", "float64", [], "eV"),
    ]
    file = File.created(*fields, n_atoms=n)
    for first in (0, 5):
        steps = range(first, first + 5)
        places = motion(5, (n, 3), "<f4", seed=n + 2, start=first)
        energy = noise(5, seed=first + 1)
        samples = {"positions": (steps, places), "energy": (steps, energy)}
        file.transaction(samples, {"positions": delta})
    file.seal()
    about = f"{n} atoms" + ("; a field without bytes has no chunk" if n == 0 else "")
    return Vector(f"atoms-{n}", about, "2.6", file)


def tiles():
    """Ranges of atoms and of samples."""
    fields = [
        field("positions", "float32", ["atom", 3], "Å"),
        field("grid", "int16", [5, 2]),
    ]
    file, steps = File.created(*fields, n_atoms=7), range(6)
    file.transaction(
        {
            "positions": (steps, motion(6, (7, 3), "<f4")),
            "grid": (steps, noise((6, 5, 2), "<i2")),
        },
        {"positions": delta},
        {
            "tiles": {"positions": [0, 3, 4, 7]},
            "cuts": {"positions": [0, 2, 6], "grid": [0, 1, 5, 6]},
        },
    )
    return Vector("tiles", "chunks of some atoms and some samples", "2.6", file)


def variable_cell():
    """A cell of each frame."""
    file = File.created(
        field("positions", "float32", ["atom", 3], "Å", every=2),
        field("cell", "float64", [3, 3], "Å"),
    )
    cell = 8.0 * np.eye(3) + noise((9, 3, 3)) / 8
    places = motion(5, (2, 3), "<f4")
    samples = {"positions": (range(0, 9, 2), places), "cell": (range(9), cell)}
    file.transaction(samples, {"positions": linear})
    return Vector("variable-cell", "the cell is a field", "2.6", file)


def cadences():
    """Fields due at different steps."""
    attributes = {"gauge": "none", "n": 3, "x": 0.5, "b": True}
    fields = [
        field("positions", "float32", ["atom", 3], "Å", every=10),
        field("heat_flux", "float64", [3], "eV Å/fs", every=2),
        field("late", "int32", [], every=10, offset=3),
        field("event", "uint8", [], every=None),
        field("other", "uint8", [], every=None),
        field("energy", "float64", [], "eV", every=2, attributes=attributes),
    ]
    irregular = {"event": (1, 2, 4, 30, 31, 57, 58), "other": ()}
    file = File.created(*fields)
    for steps in (range(40), range(40, 57), range(57, 74)):
        samples = {}
        for f in fields:
            if f["every"] is None:
                due = [s for s in irregular[f["name"]] if s in steps]
            else:
                due = [s for s in steps if s % f["every"] == f["offset"]]
            if due:
                samples[f["name"]] = (due, noise_of(f, len(due), seed=steps.start + 1))
        file.transaction(samples)
    return Vector(
        "mixed-cadences",
        "every, offset, irregular; one irregular field without any sample",
        "2.4",
        file,
    )


def many_runs():
    """More than 256 runs."""
    file = File.created(field("x", every=None), field("y", "int8", every=7, offset=6))
    steps = np.cumsum(1 + noise(400, "<u8") % 3)
    # every frame at a step where y is due has a sample of it
    samples = {"x": (steps, noise(400)), "y": (range(6, 784, 7), noise(112, "i1"))}
    file.transaction(samples, options={"steps_chunk": {0: delta}})
    x, y = noise(400), noise(115, "i1")
    for first, encode in ((2001, raw), (3002, plain)):
        samples = {"x": (steps + first, x), "y": (range(first, first + 799, 7), y)}
        file.transaction(samples, options={"steps_chunk": {0: encode, 1: encode}})
    return Vector("many-runs", "steps in chunks of int64: delta, raw, blosc2", "2.6", file)


def last_step():
    """The end of what a step can be."""
    file = File.created(field("x"))
    file.transaction({"x": ([0, 2**62 - 1], np.array([1.0, 2.0]))})
    return Vector("last-step", "the largest step", "1", file)


def special_floats():
    """NaN with payloads, both zeros, subnormals, infinities, in every lossless codec."""
    codecs = {"raw": raw, "blosc2": plain, "delta": delta}
    fields, samples, how = [], {}, {}
    for width in (2, 4, 8):
        words = special_words(width).view(f"<f{width}").reshape(9, 2)
        for codec, encode in codecs.items():
            name = f"{codec}_{8 * width}"
            fields.append(field(name, f"float{8 * width}", ["atom"]))
            samples[name], how[name] = (range(9), words), encode
    file = File.created(*fields)
    file.transaction(samples, how)
    return Vector(
        "special-floats",
        "NaN with payloads, signed zeros, subnormals, infinities: bit for bit",
        "5",
        file,
    )


def special_words(width):
    """Bit patterns of floats: around zero, one, infinity and the last NaN, of both signs."""
    sign = 1 << (8 * width - 1)
    top = int(np.array(np.inf, f"<f{width}").view(f"<u{width}"))
    near = [0, 1, 2, top >> 1, top - 1, top, top + 1, (top | (top >> 1)) + 5, sign - 1]
    return np.array([word | s for word in near for s in (0, sign)], f"<u{width}")


def every_dtype():
    """Each dtype as a small and as a per-atom field."""
    fields = [
        field(f"{kind}_{name}", name, shape)
        for kind, shape in (("small", []), ("atoms", ["atom", 2]))
        for name in DTYPES
    ]
    file = File.created(*fields, n_atoms=3)
    values = {f["name"]: noise_of(f, 4, 3, seed=i) for i, f in enumerate(fields, 1)}
    file.transaction({name: (range(4), each) for name, each in values.items()})
    file.seal()
    return Vector(
        "every-dtype",
        "every dtype, as a small field and per atom; SCALARS holds the small ones",
        "2.4",
        file,
    )


def trees():
    """Everything that METADATA and CHECKPOINT can hold."""
    many = {
        "nothing": None, "yes": True, "no": False, "small": -1, "large": 2**64 - 1, "low": -(2**63),
        "float": 0.1, "nan": float("nan"), "inf": float("inf"), "minus": -float("inf"), "text": "ℏω → κ",
        "long": "äß" * 600, "bytes": b"\x00\xff", "long_bytes": bytes(range(256)) * 5, "list": [1, "a", None, [2.5]],
        "empty": {}, "none": [], "map": {"ä": {"b": [{"c": 1}]}}, "deep": deep(29), "scalar": np.array(2.5),
        "no_values": np.empty((0, 3), "<f4"), "flags": np.array([True, False]), "shape": np.arange(6, dtype="<i2").reshape(1, 2, 3),
    }  # fmt: skip
    many.update({f"of_{name}": noise((2, 2), little(name), 5) for name in DTYPES})
    many.update(masses=np.array([28.085, 15.999]), cell=5.0 * np.eye(3))
    file = File.created(field("x"), metadata=many)
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
    )


def compressed_trees():
    """Trees whose chunks have another codec than raw."""

    class Unusual(File):
        """A file with trees in delta."""

        tree_codec = staticmethod(delta)

    tree = {"cell": 5.0 * np.eye(3), "text": "äß" * 600, "none": np.empty((0, 2))}
    file = Unusual.created(field("x"), metadata=tree)
    file.block({"x": ([3], np.array([1.0]))})
    file.checkpoint(3, {"positions": noise((2, 3)), "bytes": bytes(range(256)) * 5})
    file.commit()
    about = "chunks of METADATA and CHECKPOINT by delta"
    return Vector("trees-compressed", about, "2.5", file)


def parent():
    """A file that continues another."""
    header = {"parent": {"uuid": "b0" * 16, "digest": "0123456789abcdef" * 4, "step": 1000}}
    file = File.created(field("x"), header=header)
    file.transaction({"x": ([1001], np.array([1.0]))})
    return Vector("parent", "HEADER names the file that this one continues", "2.3", file)


def names():
    """Names that some language may find odd."""
    odd = ["time", "step", "index", "fields", "_", "A1", "class", "def", "x" * 200]
    file = File.created(*(field(name, "int8") for name in odd))
    file.transaction({name: ([0], np.array([i], "i1")) for i, name in enumerate(odd)})
    about = "names of fields that are words of some language"
    return Vector("odd-names", about, "2.4", file)
