"""`MolecularDynamics` for scripts, and whole runs with a real network."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch

import gkflux
import stepson
from gkflux.dynamics.config import ConfigError, load
from gkflux.dynamics.progress import Progress
from gkflux.dynamics.run import run
from gkflux.dynamics.state import Floats, draw_velocities
from gkflux.errors import FluxError
from gkflux.potentials.load import load_potential
from gkflux.system import System
from stepson.errors import SchemaError, StepsonError
from tests.gkflux.dynamics.harmonic import Harmonic, oscillators
from tests.gkflux.dynamics.runs import assert_same_files

CORNERS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.7


def argon() -> System:
    """A crystal of 32 atoms."""
    return System(
        positions=CORNERS, numbers=[18] * 4, cell=np.eye(3) * 5.4, pbc=True
    ).repeat(2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small systems gain nothing from threads, and lose much on a busy machine."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def velocities(system: System) -> Floats:
    drawn: Floats = draw_velocities(system.masses, 60, seed=1, stage=0, replicas=[0])[0]
    return drawn


def test_energy_is_conserved_and_the_flux_is_that_of_the_last_flux_step() -> None:
    potential, system = load_potential("argon", dtype="float64"), argon()
    md = gkflux.MolecularDynamics(
        potential, system, velocities=velocities(system), timestep=2.0, heat_flux_every=5
    )
    start = md.state
    md.run(12)
    at_10 = md.heat_flux
    assert at_10 is not None
    energy = md.state.energy + md.state.energy_kinetic
    assert energy == pytest.approx(start.energy + start.energy_kinetic, abs=1e-5)
    assert abs(md.state.energy - start.energy) > 1e-3
    again = gkflux.MolecularDynamics(
        potential, system, velocities=velocities(system), timestep=2.0
    ).run(10)
    assert again.heat_flux is None
    moved = system.moved(again.state.positions)
    expected = gkflux.heat_flux(potential, moved, again.state.velocities)
    np.testing.assert_allclose(at_10, expected, rtol=1e-9)


def test_momentum_is_removed_for_nve_only() -> None:
    system, moving = oscillators(), np.full((4, 3), 0.01)
    potential = Harmonic([1.0])
    nve = gkflux.MolecularDynamics(potential, system, velocities=moving, timestep=1.0)
    np.testing.assert_allclose(nve.state.velocities, 0, atol=1e-17)
    langevin = gkflux.MolecularDynamics(
        potential,
        system,
        velocities=moving,
        timestep=1.0,
        ensemble="langevin",
        temperature=300,
        friction=0.01,
    )
    np.testing.assert_array_equal(langevin.state.velocities, moving)


def test_a_writer_gets_every_field_that_is_due(tmp_path: Path) -> None:
    system = oscillators()
    fields = [
        stepson.Field("positions", "float32", ("atom", 3), "Å", every=3),
        stepson.Field("energy", "float64", (), "eV", every=2),
        stepson.Field("heat_flux", "float64", (3,), "eV Å/fs", every=4),
    ]
    path = tmp_path / "md.son"
    with stepson.create(path, fields=fields, numbers=system.numbers, timestep=1.0) as out:
        md = gkflux.MolecularDynamics(
            Harmonic([1.0]), system, velocities=velocities(system), timestep=1.0, writer=out
        )
        md.run(7).run(5)
    with stepson.open(path) as trajectory:
        assert list(trajectory["positions"].steps[:]) == [0, 3, 6, 9, 12]
        assert list(trajectory["energy"].steps[:]) == [0, 2, 4, 6, 8, 10, 12]
        last = trajectory["positions"][-1]
        np.testing.assert_array_equal(last, md.state.positions.astype(np.float32))
        assert trajectory["energy"][-1] == md.state.energy
        assert md.heat_flux is not None
        np.testing.assert_array_equal(trajectory["heat_flux"][-1], md.heat_flux)


def test_velocities_are_drawn_at_the_temperature() -> None:
    system, potential = oscillators(), Harmonic([1.0])
    md = gkflux.MolecularDynamics(potential, system, timestep=1.0, temperature=60, seed=1)
    expected = draw_velocities(system.masses, 60, seed=1, stage=0, replicas=[0])[0]
    np.testing.assert_allclose(md.state.velocities, expected, rtol=0, atol=1e-15)


def test_what_molecular_dynamics_refuses(tmp_path: Path) -> None:
    system, potential = oscillators(), Harmonic([1.0])
    with pytest.raises(FluxError, match="no velocities"):
        gkflux.MolecularDynamics(potential, system, timestep=1.0)
    v = np.zeros((4, 3))
    with pytest.raises(FluxError, match="needs lattice="):
        gkflux.MolecularDynamics(
            potential, system, velocities=v, timestep=1.0, gauge="lattice"
        )
    with pytest.raises(FluxError, match=r"needs temperature= \(K\)"):
        gkflux.MolecularDynamics(
            potential, system, velocities=v, timestep=1.0, ensemble="langevin"
        )
    with pytest.raises(FluxError, match="shape"):
        gkflux.MolecularDynamics(potential, system, velocities=v[:2], timestep=1.0)
    fields = [stepson.Field("charge", "float64", (), "e")]
    out = stepson.create(tmp_path / "a.son", fields=fields, numbers=system.numbers)
    with out, pytest.raises(SchemaError, match="the writer wants charge"):
        gkflux.MolecularDynamics(potential, system, velocities=v, timestep=1.0, writer=out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestep": 0.0}, "timestep = 0.0 is no time"),
        ({"timestep": np.nan}, "timestep = nan is no time"),
        ({"timestep": "1"}, "timestep = '1' is no time"),
        ({"temperature": -1.0}, "temperature = -1.0 is no temperature"),
        ({"temperature": np.inf}, "temperature = inf is no temperature"),
        ({"heat_flux_every": 0}, "heat_flux_every = 0 is no number"),
        ({"heat_flux_every": 1.5}, "heat_flux_every = 1.5 is no number"),
        ({"formulation": "virial"}, "formulation 'virial' is not known"),
        ({"gauge": "lettice"}, "gauge 'lettice' is not known"),
        ({"velocities": np.full((4, 3), np.nan)}, "velocities holds values that are not"),
        ({"velocities": "none"}, "velocities must be real numbers"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_before_anything_moves(
    change: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"velocities": np.zeros((4, 3)), "timestep": 1.0}
    with pytest.raises(FluxError, match=message):
        gkflux.MolecularDynamics(Harmonic([1.0]), oscillators(), **(given | change))


CONFIG = """
[system]
structure = "argon.xyz"
lattice = "argon.xyz"
supercell = [2, 2, 2]
temperature = 60
seed = 3
[potential]
model = "argon"
[[stage]]
name = "thermalise"
ensemble = "langevin"
timestep = 4.0
steps = 60
friction = 0.01
record.every = 20
[[stage]]
name = "production"
timestep = 4.0
steps = 120
replicas = 2
record = { every = 10, precision.positions = 1e-4, dtype.velocities = "float64" }
heat_flux = { every = 2 }
[output]
folder = "out"
commit_seconds = 1000
commit_steps = 25
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    import ase.io

    crystal = System(positions=CORNERS, numbers=[18] * 4, cell=np.eye(3) * 5.4, pbc=True)
    ase.io.write(str(tmp_path / "argon.xyz"), crystal.to_ase())
    path = tmp_path / "run.toml"
    path.write_text(CONFIG)
    return path


def test_a_run_with_a_network_stopped_and_resumed_is_the_same_bits(
    configuration: Path, tmp_path: Path
) -> None:
    whole = run(load(configuration))
    assert whole.folder == tmp_path / "out"
    assert whole.finished
    stop = threading.Event()

    def listen(progress: Progress) -> None:
        if progress.phase == "running" and progress.step % 3 == 0:
            stop.set()

    calls = 0
    while True:
        summary = run(
            load(configuration), output=tmp_path / "b", on_progress=listen, stop=stop
        )
        if summary.finished:
            break
        calls += 1
        if calls > 6:
            listen = None  # type: ignore[assignment]
        stop.clear()
    assert_same_files(tmp_path / "out", tmp_path / "b")


def test_the_virial_form_is_computed_by_name_and_found_wrong(
    configuration: Path, tmp_path: Path
) -> None:
    text = CONFIG.replace("heat_flux = {", 'heat_flux = { formulation = "local",')
    assert text != CONFIG
    configuration.write_text(text)
    summary = run(load(configuration))
    assert any("'local' leaves out the power" in message for message in summary.messages)
    found = gkflux.GreenKubo.from_trajectories(
        sorted(tmp_path.glob("out/production/*/*.son"))
    )
    assert {c.name: c.status for c in found.checks}["formulation"] == "fail"


def test_what_such_a_run_says_about_itself(configuration: Path, tmp_path: Path) -> None:
    run(load(configuration))
    with stepson.open(tmp_path / "out" / "production" / "01" / "md.son") as trajectory:
        about = trajectory.metadata
        assert about["potential"]["kind"] == "schnet"
        assert len(about["potential"]["sha256"]) == 64
        assert about["heat_flux"]["gauge"] == "lattice"
        assert about["heat_flux"]["formulation"] == "semilocal"
        assert about["heat_flux"]["convective"] is False
        np.testing.assert_allclose(about["lattice"], argon().positions, atol=1e-9)
        assert trajectory.fields["heat_flux"].attributes["gauge"] == "lattice"
        assert trajectory.fields["positions"].precision == 1e-4
        assert trajectory.fields["velocities"].dtype == "float64"
        assert about["momentum_removed"] is True
        assert about["host"]["threads"] >= 1
        assert about["versions"]["torch"]
        energy = trajectory["energy"][:] + trajectory["energy_kinetic"][:]
        assert np.ptp(energy) < 2e-4 * 32


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'structure = "argon.xyz"',
            'structure = "no.xyz"',
            "system.structure: there is no",
        ),
        ('lattice = "argon.xyz"', 'lattice = "no.in"', "system.lattice: there is no file"),
        ('model = "argon"', 'model = "krypton"', "no shipped model 'krypton'"),
        ("seed = 3", 'seed = 3\nvelocities = "file"', "argon.xyz holds none; use 'draw'"),
        ('"argon"\n', '"argon"\nelements = ["argon"]\n', "'argon' is no chemical symbol"),
        (
            '"argon"\n',
            '"argon"\nelements = ["Zr", "O"]\n',
            "not trained on atomic number 40",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_is_computed(
    configuration: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    configuration.write_text(CONFIG.replace(old, new))
    with pytest.raises(StepsonError, match=message):
        run(load(configuration))
    assert not (tmp_path / "out").exists()


def test_a_lattice_of_other_atoms_is_refused(configuration: Path, tmp_path: Path) -> None:
    text = (tmp_path / "argon.xyz").read_text()
    (tmp_path / "neon.xyz").write_text(text.replace("Ar ", "Ne "))
    configuration.write_text(CONFIG.replace('lattice = "argon', 'lattice = "neon'))
    with pytest.raises(ConfigError, match=r"system\.lattice"):
        run(load(configuration))


def test_a_lattice_far_from_the_structure_is_refused(
    configuration: Path, tmp_path: Path
) -> None:
    import ase.io

    permuted = System(
        positions=CORNERS[[1, 0, 2, 3]], numbers=[18] * 4, cell=np.eye(3) * 5.4, pbc=True
    )
    ase.io.write(str(tmp_path / "permuted.xyz"), permuted.to_ase())
    configuration.write_text(CONFIG.replace('lattice = "argon', 'lattice = "permuted'))
    with pytest.raises(ConfigError, match=r"atom \d+ is .* Å from its site"):
        run(load(configuration))
