"""How fast is the reduction, how much memory does it take, is a merged result exact?

Measured in CPU seconds of one core, so that a busy machine disturbs little; each number
beside a peer in the same run where there is one:

1. the lag accumulator fed in chunks, against one FFT correlation of the whole series;
2. random ragged pieces merged in a random tree, against one shot;
3. the whole reduction (both passes, all estimators) of a long run that is never in
   memory, with the highest resident memory of a process of its own;
4. the same from a .son file;
5. by the clock: that file by one thread, by two, by one and by two worker processes, and by
   two of which one is killed, each in a process of its own; the start of the workers, which
   takes seconds, counted in;
6. with --long: a .son file of so many samples, by all cores, written to --folder.

    OMP_NUM_THREADS=1 python benchmarks/reduction.py [--samples 4000000] [--json r.json]
        [--long 1000000000] [--folder DIR]
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import measuring
import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.signal import correlate

from gkflux.correlate import LagAccumulator, LagState, merge

Float = NDArray[np.float64]
CHUNK = 1 << 16


def chunks(samples: int, first: int = 0) -> Iterator[tuple[NDArray[np.int64], Float]]:
    """Give the samples from `first` on of a smooth flux, made as they are asked for."""
    for start in range(first, samples, CHUNK):
        count = min(CHUNK, samples - start)
        noise = np.random.default_rng(start).normal(size=(CHUNK + 8, 3))
        smooth = sum(noise[k : k + CHUNK] for k in range(8))
        yield np.arange(start, start + count), smooth[:count]


def lags(samples: int, window: int) -> dict[str, float]:
    """Time the accumulator and, on a part that fits, the correlation of a whole series."""
    series = [flux for _, flux in chunks(samples)]
    start = process_time()
    leaf = LagAccumulator(window, 3)
    for flux in series:
        leaf.update(flux)
    leaf.state()
    ours = samples / (process_time() - start)
    whole = np.concatenate(series)[: 1 << 20]
    start = process_time()
    for a in range(3):
        for b in range(3):
            correlate(whole[:, a], whole[:, b], method="fft")[len(whole) - 1 :][
                : window + 1
            ]
    theirs = len(whole) / (process_time() - start)
    return {
        "window": window,
        "samples_per_second": ours,
        "one_shot_samples_per_second": theirs,
    }


def merging(seed: int = 0) -> dict[str, float]:
    """Compare 301 ragged pieces, merged in a random tree, with one shot."""
    generator = np.random.default_rng(seed)
    series = generator.normal(size=(200_000, 3)).cumsum(axis=0) * 0.01
    series += generator.normal(size=series.shape)
    cuts = np.sort(generator.integers(0, len(series), 300))
    states = [LagState.of(part, 1000) for part in np.split(series, cuts)]
    while len(states) > 1:
        at = int(generator.integers(len(states) - 1))
        states[at : at + 2] = [merge(states[at], states[at + 1])]
    whole = LagState.of(series, 1000).sums
    return {
        "pieces": 301,
        "error": float(np.abs(states[0].sums - whole).max() / np.abs(whole).max()),
    }


def stream(samples: int) -> dict[str, float]:
    """Reduce a run that is never in memory."""
    from gkflux.conductivity import reduce_runs
    from gkflux.plan import Settings
    from gkflux.runs import Chunk, Run

    run = Run(
        name="stream",
        samples=samples,
        every=1,
        timestep=2.0,
        read=lambda a, b: (Chunk(steps, flux, {}) for steps, flux in chunks(b, a)),
        volume=1000.0,
        temperature=300.0,
    )
    start = process_time()
    found = reduce_runs([run], Settings())
    return _measured(samples, process_time() - start, found)


def file(samples: int, path: Path) -> dict[str, float]:
    """Reduce a .son file."""
    import gkflux

    start = process_time()
    found = gkflux.GreenKubo.from_trajectories(path, temperature=300.0)
    return _measured(samples, process_time() - start, found)


def _measured(samples: int, seconds: float, found: Any) -> dict[str, float]:
    return {
        "samples": samples,
        "samples_per_second": samples / seconds,
        "peak_MiB": measuring.memory_MiB(),
        "lag_samples": found.settings["lag_fs"] / found.settings["spacing_fs"],
    }


def clocked(path: Path, how: dict[str, Any], kill: bool) -> dict[str, Any]:
    """Reduce a file in some way, and say how long it took and what came out."""
    import gkflux

    seen = 0

    def progress(_: str, done: int, total: int) -> None:
        nonlocal seen
        seen += 1
        if kill and seen == 3:  # workers are children of this process
            children = psutil.Process().children()
            workers = [c for c in children if "dask_worker" in " ".join(c.cmdline())]
            workers[0].kill()

    start = perf_counter()
    found = gkflux.GreenKubo.from_trajectories(
        path, temperature=300.0, progress=progress, **how
    )
    return {
        "seconds": perf_counter() - start,
        "peak_MiB": measuring.memory_MiB(),
        "curve": found.curves["autocorrelation"].ravel().tolist(),
        "kappa": found.kappa,
    }


def sharing(path: Path) -> dict[str, Any]:
    """Compare ways to share the work on one file."""
    ways: dict[str, tuple[dict[str, Any], bool]] = {
        "1 thread": ({"threads": 1}, False),
        "2 threads": ({"threads": 2}, False),
        "1 worker": ({"workers": 1}, False),
        "2 workers": ({"workers": 2}, False),
        "2 workers, one killed": ({"workers": 2}, True),
    }
    found = {name: measuring.fresh(clocked, path, *way) for name, way in ways.items()}
    first = np.array(found["1 thread"]["curve"])
    for one in found.values():
        difference = np.abs(np.array(one.pop("curve")) - first).max()
        one["difference"] = float(difference / np.abs(first).max())
    return found


def write(samples: int, path: Path) -> None:
    """Write the flux as a .son file."""
    import stepson

    fields = [stepson.Field("heat_flux", "float64", (3,), "eV Å/fs")]
    cell, numbers = np.eye(3) * 10, [18] * 8
    with stepson.create(
        path, fields=fields, numbers=numbers, cell=cell, timestep=2.0
    ) as out:
        for steps, flux in chunks(samples):
            out.extend(steps=steps, heat_flux=flux)


def long(samples: int, folder: Path | None) -> dict[str, Any]:
    """Write a long file, and reduce it by all cores."""
    with tempfile.TemporaryDirectory(dir=folder) as where:
        path = Path(where) / "flux.son"
        write(samples, path)
        found = measuring.fresh(clocked, path, {}, False)
        del found["curve"]
        return {"samples": samples, "bytes": path.stat().st_size, **found}


def main() -> None:
    """Run the measurements from the command line."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--samples", type=int, default=4_000_000)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="of the long file; it is removed")
    options = parser.parse_args()
    samples = options.samples
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flux.son"
        write(samples, path)
        result = {
            "lags": [lags(samples, window) for window in (1000, 8000, 65_000)],
            "merging": merging(),
            "stream": [measuring.fresh(stream, n) for n in (samples // 8, samples)],
            "file": measuring.fresh(file, samples, path),
            "sharing": sharing(path),
        }
    if options.long:
        result["long"] = long(options.long, options.folder)
    result["machine"] = measuring.machine("numpy", "scipy", "dask")
    measuring.report(result, options.json)


if __name__ == "__main__":
    main()
