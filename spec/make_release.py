"""Writes the files of ``spec/vectors/written-by-VERSION``: ``python -m spec.make_release``.

Run once for each released version, with that version. What it wrote is never made anew, so
every later version has to read what this one left behind; so it refuses to overwrite.
"""

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import stepson
from spec.generator.values import motion, noise
from spec.generator.vector import dumps
from stepson import Field, Writer
from stepson.conformance.reading import describe
from stepson.schema import DTYPES
from stepson.trajectory import Trajectory

VECTORS = Path(__file__).parent / "vectors"
ATOMS = 3
RUN = (
    Field("positions", "float32", ("atom", 3), "Å", every=4),
    Field("velocities", "float64", ("atom", 3), "Å/fs", every=4, precision=1e-4),
    Field("energy", "float64", (), "eV", every=2),
    Field("heat_flux", "float64", (3,), "eV Å/fs", every=2, attributes={"gauge": "none"}),
    Field("late", "int32", (), "", every=10, offset=3),
    Field("event", "uint8", (), "", every=None),
)
PLANS = {
    "raw": ("float32", "float64", "int16"),
    "blosc2": ("float32", "float64", "int16"),
    "delta": ("float16", "float32", "float64", "int16"),
    "linear": ("float32", "float64"),
    "auto": ("float16", "float32", "float64", "int16"),
}
BY_NAME = (
    *(
        Field(f"{codec}_{dtype}", dtype, ("atom", 3), "", codec=codec)
        for codec, dtypes in PLANS.items()
        for dtype in dtypes
    ),
    *(
        Field(f"{codec}_{dtype}_lossy", dtype, ("atom", 3), "", codec=codec, precision=1e-3)
        for codec in ("bounded", "auto")
        for dtype in ("float16", "float32", "float64")
    ),
)
KINDS = (
    *(Field(f"small_{dtype}", dtype, (), "") for dtype in DTYPES),
    *(Field(f"atoms_{dtype}", dtype, ("atom", 2), "") for dtype in DTYPES),
    Field("tensor", "float64", (3, 3), "eV/Å³"),
    Field("grid", "float32", (9, 9), ""),
)


def begin(path: Path, fields: tuple[Field, ...]) -> Writer:
    """A new file with everything that METADATA may hold."""
    more = {
        "seed": 42,
        "notes": ["a", 1.5, None],
        "text": "x" * 2000,
        "array": noise((2, 3)),
    }
    return stepson.create(
        path,
        fields=fields,
        numbers=[40, 8, 8],
        masses=[91.224, 15.999, 15.999],
        cell=5.0 * np.eye(3),
        pbc=(True, True, False),
        timestep=4.0,
        metadata=more,
        commit="manual",
        threaded=False,
    )


def add(writer: Writer, first: int, end: int) -> None:
    """Frames of a range of steps, and a commit."""
    for step in range(first, end):
        values = {
            name: sample(field, step)
            for number, (name, field) in enumerate(writer.fields.items())
            if field.due(step) or (field.every is None and (step + number) % 7 == 0)
        }
        if values:
            writer.append(step, **values)
    writer.commit()


def sample(field: Field, step: int) -> np.ndarray:
    """Something that moves."""
    shape, dtype = field.sample_shape(ATOMS), np.dtype(field.dtype)
    if dtype.kind == "f":
        return motion(1, shape, dtype, seed=len(field.name), start=step)[0]
    return noise(shape, dtype, seed=step + 1)


def sealed(path: Path) -> None:
    """Closed properly, with checkpoints."""
    with begin(path, RUN) as writer:
        for first in (0, 20, 40):
            add(writer, first, first + 20)
            state = {"positions": noise((ATOMS, 3), seed=first + 1), "stage": "nve"}
            writer.checkpoint(
                {**state, "nested": {"a": [1, 2.5, "b", b"\x00"], "empty": {}}}
            )
            writer.commit()


def unsealed(path: Path) -> None:
    """As a kill leaves it between two commits."""
    writer = begin(path, RUN)
    add(writer, 0, 30)
    writer.checkpoint({"state": noise(3)})
    add(writer, 30, 50)
    writer.abandon()


def torn(path: Path) -> None:
    """As a kill leaves it in a commit."""
    unsealed(path)
    size = path.stat().st_size
    with stepson.open(path, "a", commit="manual", threaded=False) as writer:
        add(writer, 50, 80)
    data = path.read_bytes()
    path.write_bytes(data[: size + (len(data) - size) // 2 + 7])


def reopened(path: Path) -> None:
    """Sealed, torn bytes behind it, appended, sealed, appended."""
    sealed(path)
    with path.open("ab") as file:
        file.write(b"torn" * 100)
    with stepson.open(path, "a", commit="manual", threaded=False) as writer:
        add(writer, 60, 90)
    writer = stepson.open(path, "a", commit="manual", threaded=False)
    add(writer, 90, 100)
    writer.abandon()


def codecs(path: Path) -> None:
    """Every codec by name, in two blocks."""
    with begin(path, BY_NAME) as writer:
        add(writer, 0, 12)
        add(writer, 12, 20)


def kinds(path: Path) -> None:
    """Every dtype, small and per atom; tensors."""
    with begin(path, KINDS) as writer:
        add(writer, 0, 6)
        add(writer, 6, 7)


def child(path: Path) -> None:
    """Continues another file."""
    other = path.with_name("parent.son")
    sealed(other)
    with stepson.open(other) as parent:
        header = {"fields": RUN[2:3], "numbers": [18], "parent": parent}
        with stepson.create(path, **header, threaded=False) as writer:
            writer.append(60, energy=1.0)
    other.unlink()


CASES: tuple[Callable[[Path], None], ...] = (
    sealed,
    unsealed,
    torn,
    reopened,
    codecs,
    kinds,
    child,
)


def main() -> int:
    """Write the folder of this version."""
    root = VECTORS / f"written-by-{stepson.__version__}"
    if root.exists():
        sys.stderr.write(f"{root} exists: it is never written anew\n")
        return 1
    socket.gethostname = lambda: "example"
    for case in CASES:
        folder = root / case.__name__
        folder.mkdir(parents=True)
        path = folder / "file.son"
        case(path)
        with stepson.open(path) as trajectory:
            assert isinstance(trajectory, Trajectory)
            found = describe(trajectory)
        about = {"about": str(case.__doc__), "spec": "all", "verdict": "reads"}
        text = dumps(json.loads(json.dumps({**about, **found})))
        (folder / "expect.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
