"""Size and speed of trajectories against XTC and HDF5 (gzip + shuffle), in one run.

    python benchmarks/compression.py [--json FILE]

Positions and velocities of liquid argon and crystalline silicon, float32, every 4 fs.
Prints one JSON object: ratio to the raw float32, MB/s of raw float32 written and read in
CPU time of one core (so that a busy machine does not count). Ours is measured on whole
chunks of 128 frames, verified while written; the plan comes from the frames before. Peers
write to a file in memory where there is one. XTC holds positions only, to 5e-3 Å (it is
told nm x 1000), which is why ours is measured at that bound too.
"""

import tempfile
from pathlib import Path
from typing import Any

import h5py
import mdtraj
import measuring
import numpy as np
import trajectories
from numpy.typing import NDArray

from stepson.chunk import choose_plan, decode, encode

Array = NDArray[Any]
BLOCK = 128


def row(values: Array, size: int, write: float, read: float, **more: Any) -> dict[str, Any]:
    bits = {"bits_per_value": round(8 * size / values.size, 2)}
    return {**measuring.speeds(values.nbytes, size, write, read), **bits, **more}


def ours(first: Array, values: Array, precision: float | None) -> dict[str, Any]:
    plan = choose_plan(first, precision=precision)
    write, chunk = measuring.quickest(lambda: encode(values, plan, precision=precision), 5)
    read, back = measuring.quickest(
        lambda: decode(chunk.data, chunk.info, dtype=values.dtype, shape=values.shape), 5
    )
    error = float(np.abs(back.astype("f8") - values.astype("f8")).max())
    assert error <= (precision or 0.0)
    params = {**plan.params, "taps": len(plan.params.get("taps", ()))}
    return row(values, len(chunk.data), write, read, codec=plan.codec, **params)


def hdf5(folder: Path, values: Array) -> dict[str, Any]:
    path = folder / "peer.h5"

    def write() -> None:
        with h5py.File(path, "w") as file:
            chunks = (32, *values.shape[1:])
            file.create_dataset(
                "x", data=values, chunks=chunks, compression="gzip", shuffle=True
            )

    def read() -> Array:
        with h5py.File(path) as file:
            return np.asarray(file["x"])

    wrote, _ = measuring.quickest(write, 2)
    took, _ = measuring.quickest(read, 3)
    return row(values, path.stat().st_size, wrote, took)


def xtc(folder: Path, values: Array, cell: float) -> dict[str, Any]:
    path = folder / "peer.xtc"
    box = np.tile(np.eye(3, dtype="f4") * cell / 10, (len(values), 1, 1))
    count = np.arange(len(values), dtype="i4")

    def write() -> None:
        with mdtraj.formats.XTCTrajectoryFile(str(path), "w") as file:
            file.write(values / 10, count.astype("f4"), count, box)

    def read() -> Any:
        with mdtraj.formats.XTCTrajectoryFile(str(path)) as file:
            return file.read()

    wrote, _ = measuring.quickest(write, 3)
    took, _ = measuring.quickest(read, 3)
    return row(values, path.stat().st_size, wrote, took)


def measure(source: trajectories.Trajectory, folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {"atoms": source.positions.shape[1]}
    for name, bounds in (("positions", (1e-4, 1e-3, 5e-3)), ("velocities", (1e-6,))):
        values = getattr(source, name).astype("f4")
        first, block = values[:BLOCK], np.ascontiguousarray(values[BLOCK : 2 * BLOCK])
        table = {"stepson lossless": ours(first, block, None)}
        for bound in bounds:
            table[f"stepson {bound:g}"] = ours(first, block, bound)
        table["hdf5 gzip+shuffle"] = hdf5(folder, block)
        if name == "positions":
            table["xtc 5e-3"] = xtc(folder, block, source.cell)
        result[name] = table
    return result


def main() -> None:
    options = measuring.parser(__doc__).parse_args()
    makers = {"argon": trajectories.argon, "silicon": trajectories.silicon}
    with tempfile.TemporaryDirectory() as name:
        result = {key: measure(make(), Path(name)) for key, make in makers.items()}
    measuring.report(result, options.json)


if __name__ == "__main__":
    main()
