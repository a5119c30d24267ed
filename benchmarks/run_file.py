"""The file of a real run beside XTC and HDF5 of the same frames, and how fast it restarts.

    python benchmarks/run_file.py [--run CONFIG.toml] [--frames 4096] [--json FILE]

Runs molecular dynamics (the shipped argon model on a crystal of 864 atoms, or the system
and potential of a run configuration), recording positions and velocities at every step.
Then, in the same process and from the same arrays, whole files are written and read:

- stepson: lossless, and with the bound of XTC; synced, checksummed, verified;
- XTC: positions only, to 5e-3 Å (mdtraj);
- HDF5: gzip + shuffle, chunks of 32 frames (h5py).

Ratios are to raw float32, speeds are MB/s of raw float32 in CPU time of one core, so that
a busy machine does not count. Restart is wall time, libraries being imported: to the last
state, and for ten more steps of the finished run with all of its files.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mdtraj
import numpy as np
from numpy.typing import NDArray

import stepson
from gkflux.dynamics.config import RunConfig, load, parse
from gkflux.dynamics.run import run

Array = NDArray[np.float32]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
XTC_BOUND = 5e-3  # Å
ARGON = """
[system]
structure = "argon.xyz"
supercell = [6, 6, 6]
temperature = 40
[potential]
model = "argon"
"""
STAGES = """
[[stage]]
name = "thermalise"
ensemble = "langevin"
timestep = 4.0
steps = 500
friction = 0.01
[[stage]]
name = "production"
timestep = 4.0
steps = {steps}
record.every = 1
[output]
folder = "out"
"""


def every_step(config: RunConfig, frames: int) -> RunConfig:
    """The same system: thermalised for 500 steps, then `frames` recorded at every step."""
    head = config.text.partition("[[stage]]")[0]
    return parse(head + STAGES.format(steps=frames - 1), config.path)


def timed(work: Callable[[], Any], repeat: int = 3) -> tuple[float, Any]:
    """Shortest CPU time of a few calls, s, and the last result."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def row(raw: int, size: int, write: float, read: float) -> dict[str, float]:
    return {
        "ratio": round(raw / size, 2),
        "write_MB_s": round(raw / write / 1e6),
        "read_MB_s": round(raw / read / 1e6),
    }


def ours(
    path: Path, fields: dict[str, Array], bounds: dict[str, float]
) -> dict[str, float]:
    """Write and scan a `.son` of these fields."""
    schema = [
        stepson.Field(name, "float32", ("atom", 3), "Å", precision=bounds.get(name))
        for name in fields
    ]
    count, atoms = next(iter(fields.values())).shape[:2]

    def write() -> None:
        path.unlink(missing_ok=True)
        with stepson.create(
            path, fields=schema, numbers=[18] * atoms, masses=[39.95] * atoms, pbc=False
        ) as out:
            out.extend(steps=range(count), **fields)

    def read() -> int:
        with stepson.open(path) as trajectory:
            batches = trajectory.stream(*fields, frames=128)
            return sum(batch[name].nbytes for batch in batches for name in fields)

    wrote, _ = timed(write)
    took, total = timed(read)
    raw = sum(values.nbytes for values in fields.values())
    assert total == raw
    return row(raw, path.stat().st_size, wrote, took)


def hdf5(path: Path, fields: dict[str, Array]) -> dict[str, float]:
    def write() -> None:
        with h5py.File(path, "w") as file:
            for name, values in fields.items():
                chunks = (32, *values.shape[1:])
                file.create_dataset(
                    name, data=values, chunks=chunks, compression="gzip", shuffle=True
                )

    def read() -> int:
        with h5py.File(path) as file:
            starts = range(0, len(next(iter(fields.values()))), 128)
            return sum(file[name][i : i + 128].nbytes for i in starts for name in fields)

    wrote, _ = timed(write, 1)
    took, _ = timed(read)
    return row(sum(v.nbytes for v in fields.values()), path.stat().st_size, wrote, took)


def xtc(path: Path, positions: Array) -> dict[str, float]:
    count = np.arange(len(positions), dtype="i4")
    box = np.tile(np.eye(3, dtype="f4"), (len(positions), 1, 1))

    def write() -> None:
        with mdtraj.formats.XTCTrajectoryFile(str(path), "w") as file:
            file.write(positions / 10, count.astype("f4"), count, box)

    def read() -> None:
        with mdtraj.formats.XTCTrajectoryFile(str(path)) as file:
            while len(file.read(128)[0]):
                pass

    wrote, _ = timed(write)
    took, _ = timed(read)
    return row(positions.nbytes, path.stat().st_size, wrote, took)


def restart(config: RunConfig, folder: Path, path: Path) -> dict[str, float]:
    """Seconds to the last state, and for ten more steps of a finished run."""
    start = time.perf_counter()
    with stepson.open(path) as trajectory:
        step = int(trajectory.checkpoint()["step"])
    state = time.perf_counter() - start
    start = time.perf_counter()
    summary = run(config.changed(steps=step + 10), output=folder)
    assert summary.steps_computed == 10
    return {
        "state_ms": round(1e3 * state, 2),
        "ten_more_steps_s": time.perf_counter() - start,
    }


def main() -> None:
    """Run, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="take system and potential from here")
    parser.add_argument("--frames", type=int, default=4096)
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args()
    if options.run:
        config = load(options.run)
    else:
        config = parse(ARGON + STAGES.format(steps=1), EXAMPLES / "run.toml")
    config = every_step(config, options.frames)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(config, output=folder)
        path = folder / "production" / "md.son"
        with stepson.open(path) as trajectory:
            p, v = (trajectory[each][:] for each in ("positions", "velocities"))
        result = {
            "atoms": p.shape[1],
            "frames": len(p),
            "positions": {
                "stepson lossless": ours(folder / "a.son", {"positions": p}, {}),
                "stepson 5e-3 Å": ours(
                    folder / "a.son", {"positions": p}, {"positions": XTC_BOUND}
                ),
                "xtc 5e-3 Å": xtc(folder / "a.xtc", p),
                "hdf5 gzip+shuffle": hdf5(folder / "a.h5", {"positions": p}),
            },
            "positions and velocities": {
                "stepson lossless": ours(
                    folder / "a.son", {"positions": p, "velocities": v}, {}
                ),
                "hdf5 gzip+shuffle": hdf5(
                    folder / "a.h5", {"positions": p, "velocities": v}
                ),
            },
            "restart": restart(config, folder, path),
        }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
