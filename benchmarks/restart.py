"""How long a killed run takes to go on, for a small and for a large file.

    python benchmarks/restart.py [--gigabytes 4] [--folder DIR] [--json FILE]

The claims: the state is read in 50 ms, and the first step is done within a second after the
libraries are imported, whatever the size of the file. The run is the shipped argon model on
108 atoms; its file is made large with frames of noise, which no codec makes small. Each
restart is a process of its own. Before it the file is dropped from the page cache, as after
a reboot, or read into it, as after a kill: what is cached of the last transaction is not
believed before it was read back from the disk.

- imports: everything that a run imports, in an empty interpreter;
- state: file opened, locked and repaired, last two checkpoints read;
- first step: from the call of `run` to its first step: structure, model and kernels are
  loaded, the folder is checked, the state is read.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
import numpy as np

import stepson

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STATE, FIRST = 0.05, 1.0
REPEATS = 5
WHEN = ("after a reboot", "after a kill")
CONFIG = """
[system]
structure = "argon.xyz"
supercell = [3, 3, 3]
temperature = 40
[potential]
model = "argon"
[[stage]]
name = "production"
timestep = 4.0
steps = {steps}
record = {{ every = 1 }}
[output]
folder = "out"
"""
CHILD = """
import json, sys, threading, time
from pathlib import Path
began = time.monotonic()
import ase.io, blosc2, numba, torch, vesin
from gkflux.dynamics.config import load
from gkflux.dynamics.files import open_file
from gkflux.dynamics.recovery import Held
from gkflux.dynamics.run import run
import gkflux.potentials.load, gkflux.potentials.schnet_engine
imported = time.monotonic()
held = Held.of(open_file(Path(sys.argv[2])), 0)
read = time.monotonic()
held.writer.abandon()
stop, steps = threading.Event(), []
def listen(progress):
    if progress.phase == "running":
        steps.append(time.monotonic())
        stop.set()
config = load(sys.argv[1])
called = time.monotonic()
run(config, on_progress=listen, stop=stop)
print(json.dumps([imported - began, read - imported, steps[0] - called]))
"""


def configure(folder: Path, steps: int) -> Path:
    """Write a configuration with so many steps."""
    (folder / "argon.xyz").write_text((EXAMPLES / "argon.xyz").read_text())
    path = folder / "run.toml"
    path.write_text(CONFIG.format(steps=steps))
    return path


def grow(path: Path, gigabytes: float) -> int:
    """Append frames of noise, then the last state again; return its step."""
    rng = np.random.default_rng(0)
    with stepson.open(path, "a", commit="manual") as out:
        step, state = out.last_step, out.checkpoint_state()
        shape = (512, out.n_atoms, 3)
        while out.bytes_written < gigabytes * 1e9:
            steps = np.arange(step + 1, step + 1 + shape[0])
            noise = rng.standard_normal((2, *shape), dtype=np.float32)
            energies = np.zeros((3, shape[0]))
            names = ("energy", "energy_kinetic", "temperature")
            out.extend(
                steps,
                positions=noise[0],
                velocities=noise[1],
                **dict(zip(names, energies, strict=True)),
            )
            step = int(steps[-1])
            out.checkpoint({**state, "step": step})
            out.commit()
        out.abandon()
    return step


def restarted(config: Path, file: Path, *, cached: bool) -> dict[str, float]:
    """Seconds of imports, state, first step; medians of fresh processes."""
    found = []
    for _ in range(REPEATS):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while cached and opened.read(64 << 20):
                pass
        call = [sys.executable, "-c", CHILD, str(config), str(file)]
        done = subprocess.run(call, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
        measuring.tell(str(found[-1]))
    medians = np.median(found, axis=0).tolist()
    return dict(zip(("imports", "state", "first step"), medians, strict=True))


def measured(folder: Path, gigabytes: float) -> dict[str, Any]:
    """Make a run of that size, then restart it."""
    from gkflux.dynamics.config import load
    from gkflux.dynamics.run import run

    folder.mkdir()
    run(load(configure(folder, 200)))
    file = folder / "out" / "production" / "md.son"
    step = grow(file, gigabytes)
    config = configure(folder, 10 * step)
    return {
        "bytes": file.stat().st_size,
        "frames": step + 1,
        "after a reboot": restarted(config, file, cached=False),
        "after a kill": restarted(config, file, cached=True),
    }


def main() -> int:
    """Measure both files; 1 where a claim fails."""
    options = measuring.parser(__doc__)
    options.add_argument("--gigabytes", type=float, default=4.0)
    options.add_argument("--folder", type=Path, default=Path())
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folder = Path(scratch).absolute()
        results = {
            "small": measured(folder / "small", 0.0),
            "large": measured(folder / "large", given.gigabytes),
        }
    found = {
        "machine": measuring.machine("numba", "torch", "blosc2"),
        "limits": {"state": STATE, "first step": FIRST},
        "seconds": results,
    }
    measuring.report(measuring.rounded(found), given.json)
    times = [each[when] for each in results.values() for when in WHEN]
    return int(any(t["state"] > STATE or t["first step"] > FIRST for t in times))


if __name__ == "__main__":
    raise SystemExit(main())
