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

import tempfile
import time
from pathlib import Path

import h5py
import mdtraj
import measuring
import numpy as np
from datasets import every_step
from numpy.typing import NDArray
from storing import BATCH, XTC_BOUND

import stepson
from gkflux.dynamics.config import RunConfig, load
from gkflux.dynamics.run import run

Array = NDArray[np.float32]
Fields = dict[str, Array]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ARGON = """
[system]
structure = "argon.xyz"
supercell = [6, 6, 6]
temperature = 40
[potential]
model = "argon"
"""


def size(fields: Fields) -> int:
    """Bytes of all arrays."""
    return sum(values.nbytes for values in fields.values())


def ours(path: Path, fields: Fields, bounds: dict[str, float]) -> dict[str, float]:
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
            batches = trajectory.stream(*fields, frames=BATCH)
            return sum(batch[name].nbytes for batch in batches for name in fields)

    wrote, _ = measuring.quickest(write, 3)
    took, total = measuring.quickest(read, 3)
    assert total == size(fields)
    return measuring.speeds(total, path.stat().st_size, wrote, took)


def hdf5(path: Path, fields: Fields) -> dict[str, float]:
    def write() -> None:
        with h5py.File(path, "w") as file:
            for name, values in fields.items():
                chunks = (32, *values.shape[1:])
                file.create_dataset(
                    name, data=values, chunks=chunks, compression="gzip", shuffle=True
                )

    def read() -> int:
        with h5py.File(path) as file:
            starts = range(0, len(next(iter(fields.values()))), BATCH)
            return sum(file[name][i : i + BATCH].nbytes for i in starts for name in fields)

    wrote, _ = measuring.quickest(write, 1)
    took, _ = measuring.quickest(read, 3)
    return measuring.speeds(size(fields), path.stat().st_size, wrote, took)


def xtc(path: Path, positions: Array) -> dict[str, float]:
    count = np.arange(len(positions), dtype="i4")
    box = np.tile(np.eye(3, dtype="f4"), (len(positions), 1, 1))

    def write() -> None:
        with mdtraj.formats.XTCTrajectoryFile(str(path), "w") as file:
            file.write(positions / 10, count.astype("f4"), count, box)

    def read() -> None:
        with mdtraj.formats.XTCTrajectoryFile(str(path)) as file:
            while len(file.read(BATCH)[0]):
                pass

    wrote, _ = measuring.quickest(write, 3)
    took, _ = measuring.quickest(read, 3)
    return measuring.speeds(positions.nbytes, path.stat().st_size, wrote, took)


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


def compared(folder: Path, p: Array, v: Array) -> dict[str, dict[str, dict[str, float]]]:
    """Files of the positions, and of positions and velocities."""
    son, h5, at = folder / "a.son", folder / "a.h5", {"positions": p}
    both = {**at, "velocities": v}
    return {
        "positions": {
            "stepson lossless": ours(son, at, {}),
            "stepson 5e-3 Å": ours(son, at, {"positions": XTC_BOUND}),
            "xtc 5e-3 Å": xtc(folder / "a.xtc", p),
            "hdf5 gzip+shuffle": hdf5(h5, at),
        },
        "positions and velocities": {
            "stepson lossless": ours(son, both, {}),
            "hdf5 gzip+shuffle": hdf5(h5, both),
        },
    }


def main() -> None:
    """Run, then measure."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--run", type=Path, help="take system and potential from here")
    parser.add_argument("--frames", type=int, default=4096)
    options = parser.parse_args()
    text, place = ARGON, EXAMPLES / "run.toml"
    if options.run:
        given = load(options.run)
        text, place = given.text, given.path
    config = every_step(text, place, options.frames)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(config, output=folder)
        path = folder / "production" / "md.son"
        with stepson.open(path) as trajectory:
            p, v = (trajectory[each][:] for each in ("positions", "velocities"))
        result = {
            "atoms": p.shape[1],
            "frames": len(p),
            **compared(folder, p, v),
            "restart": restart(config, folder, path),
        }
    measuring.report(result, options.json)


if __name__ == "__main__":
    main()
