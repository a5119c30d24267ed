"""What writing costs a run: steps with full output against the same steps without.

    python benchmarks/output.py [--run CONFIG.toml] [--seconds 5] [--rounds 4] [--json FILE]

Full output is every field at every step: positions, velocities, forces, energies, and the
heat flux at every second one, committed every two seconds. Without: the same engine, the
same steps and samples, thrown away. By turns in one process, so that a busy machine slows
both alike; the ratio of a round is of neighbours, the result its median. Processor time is
that of all threads: on a machine with no core to spare it is what output costs.

By default the shipped argon model, on crystals of 108 and 1372 atoms; with a run
configuration its system and potential instead.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import numpy as np

from gkflux.dynamics.config import RunConfig, load, parse
from gkflux.dynamics.context import RunContext, first_starts, make_engine
from gkflux.dynamics.guards import check_motion
from gkflux.dynamics.progress import Progress
from gkflux.dynamics.recording import Recorder
from gkflux.dynamics.run import run_stages
from gkflux.dynamics.setup import prepare
from gkflux.dynamics.stage import StageRun
from gkflux.dynamics.state import State

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LIMIT = 1.03
ARGON = """
[system]
structure = "argon.xyz"
supercell = [{n}, {n}, {n}]
temperature = 40
[potential]
model = "argon"
"""
STAGE = """
[[stage]]
name = "production"
timestep = {timestep}
steps = 100_000_000
record = {{ every = 1, fields = ["positions", "velocities", "forces"] }}
heat_flux = {{ every = 2 }}
[output]
folder = "unused"
commit_seconds = 2.0
"""
Slice = tuple[float, float]
"""Wall and processor time of a step, ms."""


def between(marks: list[tuple[float, float, int]]) -> Slice:
    """Time of a step between the first and the last mark."""
    (t0, c0, s0), (t1, c1, s1) = marks[0], marks[-1]
    return 1e3 * (t1 - t0) / (s1 - s0), 1e3 * (c1 - c0) / (s1 - s0)


def with_output(config: RunConfig, ingredients: Any, seconds: float) -> Slice:
    """A real run, from a second after its start until shortly before its end."""
    marks: list[tuple[float, float, int]] = []
    stop, began = _Deadline(seconds), time.monotonic()

    def listen(progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase == "running" and now > began + 1:
            marks.append((now, time.process_time(), progress.step))

    with tempfile.TemporaryDirectory(dir=".") as folder:
        context = RunContext(config, Path(folder).absolute(), ingredients, listen)
        run_stages(context, stop)  # type: ignore[arg-type]
    return between(marks)


class _Deadline:
    """A stop that is set when the time is over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds + 1

    def is_set(self) -> bool:
        return time.monotonic() > self._end


def without_output(config: RunConfig, ingredients: Any, seconds: float) -> Slice:
    """The same engine, the same samples; nobody keeps them."""
    context = RunContext(config, Path(), ingredients, None)
    stage = StageRun(context, 0)
    start = first_starts(context)[0]
    state = State.at_rest(start.positions[None], start.velocities[None])
    engine = make_engine(context, 0, state, [0], flux=stage.flux)
    due = Recorder(stage.fields(), 1, stage.system.n_atoms).due
    longest = ingredients.potential.cutoff / 2
    engine.begin()
    began, marks = time.monotonic(), []
    while (now := time.monotonic()) < began + seconds + 1:
        engine.step()
        check_motion(state, longest, stage.config.timestep)
        if names := due(state.step):
            engine.measure(names)
        if now > began + 1:
            marks.append((now, time.process_time(), state.step))
    return between(marks)


def measured(config: RunConfig, seconds: float, rounds: int) -> dict[str, Any]:
    """Both by turns."""
    ingredients = prepare(config, "cpu")
    ways: tuple[Callable[..., Slice], ...] = (with_output, without_output)
    pairs = [[way(config, ingredients, seconds) for way in ways] for _ in range(rounds)]
    table = np.array(pairs)  # (rounds, ways, wall or processor)
    ratios = table[:, 0] / table[:, 1]
    return {
        "atoms": ingredients.system.n_atoms,
        "potential": ingredients.label,
        "ms with": statistics.median(table[:, 0, 0]),
        "ms without": statistics.median(table[:, 1, 0]),
        "ratio": statistics.median(ratios[:, 0]),
        "ratios": sorted(ratios[:, 0].tolist()),
        "ratio of processor time": statistics.median(ratios[:, 1]),
    }


def configurations(path: Path | None) -> list[RunConfig]:
    """Argon in two sizes, or the system and potential of a configuration."""
    if path is not None:
        text = path.read_text().split("[[stage]]")[0]
        timestep = load(path).stage[-1].timestep
        return [parse(text + STAGE.format(timestep=timestep), path.absolute())]
    sizes = (ARGON.format(n=n) + STAGE.format(timestep=4.0) for n in (3, 7))
    return [parse(text, EXAMPLES / "output.toml") for text in sizes]


def main() -> int:
    """Measure, report; 1 if output costs more than the limit."""
    options = measuring.parser(__doc__)
    options.add_argument("--run", type=Path)
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--rounds", type=int, default=4)
    given = options.parse_args()
    results = []
    for config in configurations(given.run):
        results.append(measured(config, given.seconds, given.rounds))
        measuring.tell(str(results[-1]))
    found = {
        "machine": measuring.machine("numba", "torch", "blosc2"),
        "limit": LIMIT,
        "results": results,
    }
    measuring.report(measuring.rounded(found, 4), given.json)
    return int(max(result["ratio"] for result in results) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
