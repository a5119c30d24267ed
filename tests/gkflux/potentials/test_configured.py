"""Runs of every kind of potential that ``[potential]`` can name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.dynamics.config import ConfigError, parse
from gkflux.dynamics.provenance import ChangedRunError
from gkflux.dynamics.run import run
from gkflux.errors import FluxError
from gkflux.potentials.load import load_potential

HERE = Path(__file__).parent
STRUCTURE = json.loads((HERE / "foreign" / "reference.json").read_text())["structure"]

TEXT = """
[system]
structure = "geometry.in"
temperature = 50
seed = 1
[potential]
{potential}
[[stage]]
name = "nve"
timestep = 0.1
steps = {steps}
record = {{ every = 2 }}
heat_flux = {{ every = 2 }}
[output]
folder = "out"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    system = gkflux.System(**STRUCTURE)
    atoms: Any = system.to_ase()
    atoms.write(tmp_path / "geometry.in", format="aims")
    (tmp_path / "painn.py").write_bytes((HERE / "painn.py").read_bytes())
    (tmp_path / "v2.model").write_bytes((HERE / "foreign/v2.best_model").read_bytes())
    return tmp_path


def perform(folder: Path, potential: str, steps: int = 4) -> stepson.Trajectory:
    text = TEXT.format(potential=potential, steps=steps)
    run(parse(text, folder / "run.toml"))
    return stepson.open(folder / "out" / "nve" / "md.son")


def frame(trajectory: stepson.Trajectory, index: int) -> gkflux.System:
    first: Any = trajectory[index]
    return gkflux.System(
        positions=first.positions,
        numbers=STRUCTURE["numbers"],
        cell=STRUCTURE["cell"],
        velocities=first.velocities,
    )


ANALYTIC = (
    'model = "lennard-jones"\nparameters = { epsilon = 0.001, sigma = 1.5, cutoff = 4 }'
)


def test_a_model_of_ones_own(folder: Path) -> None:
    own = 'model = "python:painn.py:make"\ndtype = "float64"\nparameters.features = 4'
    with perform(folder, own) as trajectory:
        known = trajectory.metadata["potential"]
        flux = trajectory["heat_flux"][:]
        start = frame(trajectory, 0)
    assert known["model"] == "python:painn.py:make"
    assert known["kind"] == "Painn"
    potential = load_potential(
        f"python:{folder / 'painn.py'}:make", "float64", parameters={"features": 4}
    )
    assert potential.provenance["sha256"] == known["sha256"]
    np.testing.assert_allclose(flux[0], gkflux.heat_flux(potential, start), rtol=1e-4)
    # other parameters, other weights: another run
    with pytest.raises(ChangedRunError, match=r"potential\.sha256"):
        perform(folder, own.replace("features = 4", "features = 5"), 8)
    with perform(folder, own, 8) as trajectory:
        assert trajectory.steps[-1] == 8


def test_a_model_of_another_program(folder: Path) -> None:
    foreign = 'model = "v2.model"\nunits = { energy = "kcal/mol", length = "Å" }'
    with perform(folder, foreign) as trajectory:
        known = trajectory.metadata["potential"]
        assert known["units"] == {"energy": "kcal/mol", "length": "Å"}
        assert known["program"] == "SchNetPack 2.1.1"
        assert trajectory.metadata["settings"]["potential.units.energy"] == "kcal/mol"
    with pytest.raises(ChangedRunError, match=r"potential\.units\.energy +kcal/mol +eV"):
        perform(folder, foreign.replace("kcal/mol", "eV"), 8)
    with pytest.raises(FluxError, match=r"potential\.units = \{ energy"):
        perform(folder, 'model = "v2.model"')


def test_an_analytic_potential(folder: Path) -> None:
    with perform(folder, ANALYTIC) as trajectory:
        assert trajectory.metadata["potential"]["kind"] == "lennard-jones"
        assert trajectory.metadata["potential"]["dtype"] == "float64"
    with pytest.raises(ChangedRunError, match=r"potential\.sha256"):
        perform(folder, ANALYTIC.replace("0.001", "0.002"), 8)


@pytest.mark.parametrize(
    ("potential", "message"),
    [
        ('model = "nothing"', "no file .*nothing .*by name: lennard-jones"),
        ('model = "python:none.py:make"', r"potential\.model: there is no file .*none\.py"),
        ('model = "python:painn.py:mend"', "no function 'mend'"),
        ('model = "python:painn.py"', "'python:painn.py' is not of the form"),
        ('model = "stillinger-weber"', "not trained on H, C, O"),
        ('model = "stillinger-weber"\nparameters.depth = 1', "parameters .*'depth'"),
        (ANALYTIC + '\nelements = ["Ar"]', "elements has no meaning"),
        ('model = "v2.model"\nunits.energy = "eV"', r"potential\.units\.length is missing"),
        ('model = "v2.model"\nreadout = "relu"', "readout = 'relu': expected 'ssp' or"),
        ('model = "v2.model"\nunit = 3', "potential.unit is not known; did you mean"),
    ],
)
def test_mistakes_get_one_line(folder: Path, potential: str, message: str) -> None:
    with pytest.raises((FluxError, ConfigError), match=message) as caught:
        perform(folder, potential)
    assert "\n" not in str(caught.value)
    assert not (folder / "out" / "nve" / "md.son").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def make(:\n    pass", r"SyntaxError: .*mine\.py, line 1"),
        ("import no_such_thing", "there is no module 'no_such_thing' for"),
        ("import sys\n\nsys.exit(3)", r"SystemExit: 3 \(.*mine\.py, line 3\)"),
        (
            "import torch\n\ndef make():\n    torch.nn.Linear(1, 1).load_state_dict({})",
            r"mine\.py:make fails: RuntimeError: .*Missing key.*mine\.py, line 4\)$",
        ),
    ],
)
def test_code_that_fails_gets_one_line(folder: Path, code: str, message: str) -> None:
    (folder / "mine.py").write_text(code)
    with pytest.raises(FluxError, match=message) as caught:
        perform(folder, 'model = "python:mine.py:make"')
    assert "\n" not in str(caught.value)
    assert not (folder / "out" / "nve" / "md.son").exists()
