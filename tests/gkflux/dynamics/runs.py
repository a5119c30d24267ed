"""Short runs of oscillators: what the tests of restarts start, stop, kill and compare."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import stepson
from gkflux.dynamics.config import parse
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.engine import Moves
from gkflux.dynamics.progress import Listener, RunSummary
from gkflux.dynamics.run import run_stages
from gkflux.dynamics.setup import Ingredients
from gkflux.dynamics.state import Floats
from gkflux.potentials.base import Evaluation
from gkflux.system import System
from tests.gkflux.dynamics.harmonic import Harmonic, HarmonicBatch, oscillators

TWO_STAGES = """
[system]
structure = "none"
temperature = 300
seed = 42
[potential]
model = "none"
[[stage]]
name = "warm"
ensemble = "langevin"
timestep = 2.0
steps = 301
friction = 0.02
record = { every = 7, precision = { positions = 1e-3 } }
[[stage]]
name = "cold"
timestep = 2.0
steps = 600
replicas = 3
starts = { spacing = 40 }
record = { every = 5, fields = ["positions", "velocities", "forces", "stress"] }
heat_flux = { every = 2 }
[output]
folder = "out"
commit_seconds = 1e-9
commit_steps = 50
"""


class CountingBatch(HarmonicBatch):
    """Calls `each` before every force call."""

    def __init__(self, each: Callable[[], None], *args: Any) -> None:
        super().__init__(*args)
        self._each = each

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        self._each()
        return super().forces(positions, cells)


class Counting(Harmonic):
    """A potential that tells before every force call; `sha256` may be another one."""

    def __init__(self, each: Callable[[], None] | None = None, sha256: str = "0") -> None:
        super().__init__([1.0, 2.0, 3.0, 4.0], quartic=2.0)
        self.provenance = {"file": "harmonic", "sha256": sha256, "kind": "harmonic"}
        self._each = each or (lambda: None)

    def batch(self, systems: Any, *, skin: float | None = None) -> HarmonicBatch:
        n = systems[0].n_atoms
        plain = super().batch(systems)
        springs = np.resize(self.springs, n)
        self.running = CountingBatch(self._each, springs, plain.sites, self.quartic)
        return self.running


def perform(
    folder: Path,
    text: str = TWO_STAGES,
    *,
    potential: Moves | None = None,
    stop: threading.Event | None = None,
    listener: Listener | None = None,
    system: System | None = None,
    lattice: Floats | None = None,
) -> RunSummary:
    """Run a configuration with oscillators in `folder`."""
    ingredients = Ingredients(
        system=system or oscillators(),
        potential=potential or Counting(),
        label="oscillators",
        lattice=lattice,
        device="cpu",
    )
    context = RunContext(parse(text, folder / "run.toml"), folder, ingredients, listener)
    return run_stages(context, stop or threading.Event())


def stopped_after(
    folder: Path, calls: int, text: str = TWO_STAGES, lattice: Floats | None = None
) -> RunSummary:
    """Run until so many force calls were made, then ask for a stop."""
    stop, count = threading.Event(), 0

    def each() -> None:
        nonlocal count
        count += 1
        if count == calls:
            stop.set()

    return perform(folder, text, potential=Counting(each), stop=stop, lattice=lattice)


def killed_in(folder: str, text: str, syncs: int, before: bool) -> None:
    """Run in this process, and kill it at the n-th time that it asks for a sync."""
    count = 0

    def counted(sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def wrapper(descriptor: Any) -> None:
            nonlocal count
            count += 1
            if count == syncs and before:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)
            if count == syncs:
                os.kill(os.getpid(), signal.SIGKILL)

        return wrapper

    for name in ("fsync", "fdatasync"):
        setattr(os, name, counted(getattr(os, name)))
    perform(Path(folder), text)


def killed_in_a_write(folder: str, text: str, writes: int) -> None:
    """Run in this process, and kill it when half of its n-th write is in the file."""
    real, count = os.writev, 0

    def half(descriptor: int, parts: Any) -> int:
        nonlocal count
        count += 1
        if count < writes:
            return real(descriptor, parts)
        whole = b"".join(parts)
        os.write(descriptor, whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    os.writev = half
    perform(Path(folder), text)


def slow_run(folder: str, text: str) -> None:
    """Run in this process until somebody kills it."""
    perform(Path(folder), text)


def contents(file: Path) -> dict[str, tuple[bytes, bytes]]:
    """Return, for each field, the bytes of its steps and of its samples."""
    with stepson.open(file) as trajectory:
        found = {}
        for name in trajectory.fields:
            column = trajectory[name]
            steps = np.asarray(column.steps[:], dtype=np.int64)
            found[name] = (steps.tobytes(), np.ascontiguousarray(column[:]).tobytes())
        last = trajectory.checkpoint()
        kept = ("positions", "velocities", "heat", "cell", "drift")
        state = b"".join(np.asarray(last[k]).tobytes() for k in kept)
        found["checkpoint"] = (str(last["step"]).encode(), state)
        return found


def assert_same_files(a: Path, b: Path) -> None:
    """Every file of two folders holds the same decoded bytes in every field."""
    files = sorted(path.relative_to(a) for path in a.glob("**/md.son"))
    assert files == sorted(path.relative_to(b) for path in b.glob("**/md.son"))
    assert files
    for file in files:
        one, two = contents(a / file), contents(b / file)
        assert one.keys() == two.keys()
        for name in one:
            assert one[name] == two[name], f"{file}: {name}"
