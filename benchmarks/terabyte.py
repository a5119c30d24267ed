"""What a file of a terabyte costs: to open, look into, restart from, go on with.

    python benchmarks/terabyte.py [--sizes 1e9 1e10 1e11 1e12] [--folder DIR]
                                  [--json FILE] [--figure FILE]

Sizes are logical: bytes of the float arrays that a reader can ask for. A frame has
positions and velocities (float32) of 1500 atoms, heat flux, energies and temperature
(float64), so 1e12 bytes are 27.7 million frames in 217 000 commits. The small fields are
noise and go through the writer as they are; the atoms do not move, so their chunks are
encoded once and written again and again, which is what makes a terabyte fit (7 GB) and be
done in minutes. Records, tables, index of all levels, SCALARS and checkpoints (every 16
commits) are the writer's own; only the sync of each commit is left out while it is made.

Every task runs in a process of its own. ``first_ms``: once, with the file dropped from the
page cache and nothing but `stepson` imported; ``ms``: the median of more, now from the page
cache. ``peak_MiB``: the most memory that was resident. ``killed`` is the same file without
its end: cut within the last transaction.
"""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import measuring
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

import stepson
from stepson import chunk
from stepson.block import Samples
from stepson.encoder import Encoder, _Payload, _Place
from stepson.opening import Header
from stepson.scan import check_transaction
from stepson.schema import Field, Schema
from stepson.source import LocalFile, LocalSink
from stepson.trajectory import Trajectory
from stepson.tree import pack_tree
from stepson.writing import start

ATOMS, BLOCK = 1500, 128
CHECKPOINT_EVERY = 16  # commits
PER_ATOM = {"positions": "Å", "velocities": "Å/fs"}
SMALL = {"energy": "eV", "energy_kinetic": "eV", "temperature": "K"}
FIELDS = (
    *(Field(name, "float32", ("atom", 3), unit) for name, unit in PER_ATOM.items()),
    Field("heat_flux", "float64", (3,), "eV Å/fs"),
    *(Field(name, "float64", (), unit) for name, unit in SMALL.items()),
)
FRAME_BYTES = sum(field.sample_bytes(ATOMS) for field in FIELDS)
CUT = 700
REPEAT = 21
Array = NDArray[Any]


class Constant(Encoder):
    """An encoder for atoms that do not move: their chunks are encoded once."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        self._kept: dict[tuple[str, int], chunk.Chunk] = {}

    def _pack_chunk(
        self, payload: _Payload, field: Field, values: Array, place: _Place
    ) -> None:
        if not field.per_atom:
            super()._pack_chunk(payload, field, values, place)
            return
        key = (field.name, len(values))
        if key not in self._kept:
            plan = self._plan(field, values)
            self._kept[key] = chunk.encode(np.ascontiguousarray(values), plan)
        number, encoded = self._schema.places[field.name], self._kept[key]
        atoms, count = [place.start, place.stop], place.count
        where = {"field": number, "first": place.first, "count": count, "atoms": atoms}
        payload.add(where, encoded)
        self.raw[number] += values.nbytes
        self.stored[number] += len(encoded.data)


class Unsynced(LocalSink):
    """Two hundred thousand commits without waiting for the disk."""

    def sync(self) -> None:
        """Left to the one at the end."""


def atoms() -> Array:
    """Where they stay: shape ``(2, ATOMS, 3)``, Å and Å/fs."""
    return np.random.default_rng(0).normal(0, 10, (2, ATOMS, 3)).astype("f4")


def noise() -> Iterator[dict[str, Array]]:
    """Small fields of one block after the other, always the same."""
    rng = np.random.default_rng(1)
    while True:
        flux, rest = rng.normal(size=(BLOCK, 3)), rng.normal(300, 5, (3, BLOCK))
        yield {"heat_flux": flux, **dict(zip(SMALL, rest, strict=True))}


def make(path: Path, size: float) -> dict[str, Any]:
    """Write a file of this logical size, and seal it."""
    began = time.perf_counter()
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL
    sink = Unsynced(os.open(path, flags))
    schema = Schema(FIELDS, ATOMS)
    metadata = {"numbers": np.full(ATOMS, 18), "masses": np.full(ATOMS, 39.95)}
    metadata |= {"cell": None, "pbc": [False] * 3, "timestep": 4.0}
    header = Header(uuid4().bytes, "", "benchmarks/terabyte.py")
    writer = start(sink, path, header, schema, metadata, commit="manual", threaded=False)
    appender = writer._appender
    appender._encoder = Constant(schema)
    still = [np.broadcast_to(each, (BLOCK, ATOMS, 3)) for each in atoms()]
    frames, crc, blocks = 0, 0, noise()
    state = {
        name: values.astype("f8") for name, values in zip(PER_ATOM, atoms(), strict=True)
    }
    while frames * FRAME_BYTES < size:
        steps, small = np.arange(frames, frames + BLOCK), next(blocks)
        appender.block(Samples((steps,), dict(zip(PER_ATOM, still, strict=True)) | small))
        crc = crc32c(small["heat_flux"], crc)
        frames += BLOCK
        if appender.committed.commits % CHECKPOINT_EVERY == 0:
            step = frames - 1
            tree, parts = pack_tree({**state, "step": step}, "checkpoint")
            appender.write_checkpoint(step, tree, parts)
        appender.commit()
    commits = appender.committed.commits
    writer.close()
    return {
        "frames": frames,
        "logical_bytes": frames * FRAME_BYTES,
        "file_bytes": path.stat().st_size,
        "commits": commits,
        "heat_flux_crc32c": crc,
        "made_in_s": time.perf_counter() - began,
        "peak_MiB": measuring.memory_MiB(),
    }


Task = Callable[[Path, Trajectory, int], object]


def _open(path: Path, found: Trajectory, draw: int) -> object:
    return len(found)


def _frame(path: Path, found: Trajectory, draw: int) -> object:
    values = found["positions"][draw % len(found)]
    assert np.array_equal(values, atoms()[0])
    return values


def _sample(path: Path, found: Trajectory, draw: int) -> object:
    return found["heat_flux"].at_step(draw % len(found))


def _checkpoint(path: Path, found: Trajectory, draw: int) -> object:
    return found.checkpoint()["positions"]


def _tail(path: Path, found: Trajectory, draw: int) -> object:
    return check_transaction(found.source, found.opened.tail.commit)


def _info(path: Path, found: Trajectory, draw: int) -> object:
    from stepson_cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert main(["info", str(path)]) == 0
    return shown.getvalue()


TASKS: dict[str, Task] = {
    "open": _open,
    "info": _info,
    "frame": _frame,
    "sample": _sample,
    "checkpoint": _checkpoint,
    "verify_tail": _tail,
}


def look(path: Path, task: str) -> dict[str, Any]:
    """Open the file and do one thing, first from the disk, then again and again."""
    draws = np.random.default_rng(2).integers(0, 2**62, REPEAT + 1).tolist()

    def once() -> measuring.Counting:
        source = measuring.Counting(LocalFile(path))
        with Trajectory(source, path) as found:
            TASKS[task](path, found, draws.pop())
        return source

    measuring.forget_pages(path)
    began = time.perf_counter()
    source = once()
    first = 1e3 * (time.perf_counter() - began)
    result = {"first_ms": first, "ms": measuring.median_ms(once, REPEAT)}
    if task != "info":  # which opens the file by itself
        result |= {"reads": source.reads, "bytes": source.bytes}
    return result | {"peak_MiB": measuring.memory_MiB()}


def stream(path: Path, expected: int) -> dict[str, Any]:
    """The heat flux of all frames; and whether it is what was written."""
    measuring.forget_pages(path)
    source = measuring.Counting(LocalFile(path))
    began = time.perf_counter()
    with Trajectory(source, path) as found:
        count = sum(len(batch["heat_flux"]) for batch in found.stream("heat_flux"))
        assert count == len(found)
    seconds = time.perf_counter() - began
    peak, crc = measuring.memory_MiB(), 0
    began = time.perf_counter()
    with stepson.open(path) as found:
        for batch in found.stream("heat_flux"):
            crc = crc32c(np.ascontiguousarray(batch["heat_flux"]), crc)
    return {
        "first_ms": 1e3 * seconds,
        "ms": 1e3 * (time.perf_counter() - began),
        "reads": source.reads,
        "bytes": source.bytes,
        "peak_MiB": peak,
        "samples": count,
        "as_written": crc == expected,
    }


def verify(path: Path) -> dict[str, Any]:
    """Every checksum of the file."""
    began = time.perf_counter()
    with stepson.open(path) as found:
        checked = found.verify()
    assert checked.ok
    seconds = time.perf_counter() - began
    return {"ms": 1e3 * seconds, "peak_MiB": measuring.memory_MiB()}


def append(path: Path) -> dict[str, Any]:
    """Go on with the file up to the first commit; and leave it as a killed writer does."""
    measuring.forget_pages(path)
    small = next(noise())
    began = time.perf_counter()
    writer = stepson.open(path, "a", commit="manual")
    opened = time.perf_counter()
    step = writer.frames
    for name, values in zip(PER_ATOM, atoms(), strict=True):
        small[name] = np.broadcast_to(values, (BLOCK, ATOMS, 3))
    writer.extend(steps=range(step, step + BLOCK), **small)
    writer.commit()
    committed = time.perf_counter()
    writer.abandon()
    return {
        "first_ms": 1e3 * (opened - began),
        "first_commit_ms": 1e3 * (committed - opened),
        "peak_MiB": measuring.memory_MiB(),
    }


def measure(folder: Path, size: float) -> dict[str, Any]:
    """One size: make it, look into it sealed, go on with it, cut it, and again."""
    path = folder / f"{size:g}.son"
    try:
        made = measuring.fresh(make, path, size)
        measuring.tell(
            f"{size:g} bytes: {made['frames']} frames in {made['made_in_s']:.0f} s"
        )
        sealed = {task: measuring.fresh(look, path, task) for task in TASKS}
        sealed["heat_flux"] = measuring.fresh(stream, path, made["heat_flux_crc32c"])
        sealed["verify"] = measuring.fresh(verify, path)
        sealed["append"] = measuring.fresh(append, path)
        os.truncate(path, path.stat().st_size - CUT)
        killed = {task: measuring.fresh(look, path, task) for task in TASKS}
        killed["append"] = measuring.fresh(append, path)
    finally:
        path.unlink(missing_ok=True)
    return {**made, "sealed": sealed, "killed": killed}


def targets(largest: dict[str, Any]) -> list[dict[str, Any]]:
    """What the largest file must reach, and what it does."""
    sealed, killed = largest["sealed"], largest["killed"]
    flux = sealed["heat_flux"]
    peaks = [each["peak_MiB"] for state in (sealed, killed) for each in state.values()]
    rows = (
        ("open, sealed, ms", sealed["open"]["first_ms"], 20),
        ("open, sealed, MiB read", sealed["open"]["bytes"] / measuring.MEBI, 1),
        ("open, killed, ms", killed["open"]["first_ms"], 100),
        ("restart state, sealed, ms", sealed["checkpoint"]["first_ms"], 50),
        ("restart state, killed, ms", killed["checkpoint"]["first_ms"], 50),
        ("heat flux of all frames, s", flux["first_ms"] / 1e3, 5),
        ("heat flux of all frames, MiB resident", flux["peak_MiB"], 256),
        ("any task, MiB resident", max(peaks), 512),
    )
    return [
        {"what": what, "measured": value, "below": limit, "met": value < limit}
        for what, value, limit in rows
    ]


SHOWN = {
    "open": ("sealed", "open"),
    "open, killed": ("killed", "open"),
    "last checkpoint": ("sealed", "checkpoint"),
    "one frame": ("sealed", "frame"),
    "heat flux of all": ("sealed", "heat_flux"),
}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Time and memory against size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = [result["logical_bytes"] for result in results]
    for label, (state, task) in SHOWN.items():
        rows = [result[state][task] for result in results]
        left.loglog(sizes, [row["ms"] for row in rows], "o-", ms=4, label=label)
        right.loglog(sizes, [row["peak_MiB"] for row in rows], "o-", ms=4)
    left.set(xlabel="logical size, bytes", ylabel="ms")
    right.set(xlabel="logical size, bytes", ylabel="peak resident memory, MiB")
    right.set_ylim(10, 1000)
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Measure, print, write."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e9, 1e10, 1e11, 1e12])
    parser.add_argument("--folder", type=Path, help="for the files; needs 1 %% of a size")
    parser.add_argument("--figure", type=Path, help="time and memory against size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        sizes = [measure(Path(name), size) for size in sorted(options.sizes)]
    result = {
        "machine": measuring.machine("numpy", "blosc2", "stepson"),
        "targets": targets(sizes[-1]),
        "sizes": sizes,
    }
    measuring.report(measuring.rounded(result), options.json)
    if options.figure:
        draw(sizes, options.figure)


if __name__ == "__main__":
    main()
