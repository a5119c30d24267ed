"""A hundred kills at random moments, in every ensemble, with the shipped network.

Each child is forked from a server that has imported everything, so that nearly all kills
fall into steps, commits, stage changes and restarts.
"""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest

from gkflux.dynamics.config import load
from gkflux.dynamics.run import run
from tests.gkflux.dynamics.runs import assert_same_files

ROOT = Path(__file__).resolve().parents[3]
KILLS = 100
ENSEMBLES = {
    "nve": "heat_flux = { every = 2 }",
    "langevin": "friction = 0.01",
    "csvr": "relaxation = 100.0",
    "npt": "relaxation = 100.0\npressure = 0.0\npressure_relaxation = 500.0",
}
CONFIG = """
[system]
structure = "argon.xyz"
supercell = [2, 2, 2]
lattice = "argon.xyz"
temperature = 40
seed = 11
[potential]
model = "argon"
[[stage]]
name = "first"
ensemble = "{ensemble}"
{keys}
timestep = 4.0
steps = 600
record.every = 7
[[stage]]
name = "then"
ensemble = "{ensemble}"
{keys}
timestep = 4.0
steps = 900
replicas = 3
record = {{ every = 5, fields = ["positions", "velocities", "forces"] }}
[output]
folder = "out"
commit_seconds = 0.03
"""


def configured(folder: Path, ensemble: str) -> Path:
    """Write the configuration of an ensemble, and what it reads."""
    (folder / "argon.xyz").write_text((ROOT / "examples" / "argon.xyz").read_text())
    path = folder / "run.toml"
    path.write_text(CONFIG.format(ensemble=ensemble, keys=ENSEMBLES[ensemble]))
    return path


def perform(config: str, folder: str) -> None:
    """What a child does, until it is killed."""
    import numba

    numba.set_num_threads(1)
    run(load(config), output=Path(folder))


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["csvr", "npt"])
def test_workers_leave_the_files_that_one_process_does(
    ensemble: str, tmp_path: Path
) -> None:
    """Also where a stage at constant volume starts from a mean cell."""
    config = configured(tmp_path, ensemble)
    last = '[[stage]]\nname = "last"\ntimestep = 4.0\nsteps = 50\nreplicas = 3\n[output]'
    config.write_text(config.read_text().replace("[output]", last))
    here, there = tmp_path / "here", tmp_path / "there"
    one = run(load(config), output=here)
    many = run(load(config), output=there, workers=2)
    assert one.finished
    assert many.finished
    assert_same_files(here, there)
    volumes = [
        [line for line in summary.messages if "mean volume" in line]
        for summary in (one, many)
    ]
    assert volumes[0] == volumes[1]
    assert len(volumes[0]) == (2 if ensemble == "npt" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_hundred_random_kills(ensemble: str, tmp_path: Path) -> None:
    config = str(configured(tmp_path, ensemble))
    context = multiprocessing.get_context("forkserver")
    preload = ["tests.gkflux.dynamics.test_killed_ensembles", "gkflux.potentials.load"]
    preload += ["gkflux.potentials.schnet_engine", "blosc2", "vesin", "ase.io"]
    context.set_forkserver_preload(preload)
    whole, rng = tmp_path / "whole", random.Random(ensemble)
    kills, round_, span = 0, 0, 0.0
    while kills < KILLS or round_ == 0:
        folder = whole if span == 0 else tmp_path / str(round_)
        began = time.monotonic()
        child = context.Process(target=perform, args=(config, str(folder)))
        child.start()
        child.join(timeout=None if span == 0 else rng.uniform(0, span / 2))
        if child.exitcode is None:
            child.kill()
            child.join()
        if child.exitcode == -signal.SIGKILL:
            kills += 1
            continue
        assert child.exitcode == 0
        if span == 0:
            span = time.monotonic() - began
            continue
        assert_same_files(whole, folder)
        round_ += 1
