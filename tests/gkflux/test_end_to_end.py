"""From an input file to what lies on the disk: recomputed by other means.

Nothing here looks inside: files of short runs are read, and every number in them is
computed again from the stored positions and velocities, by the generic route in float64,
by the definition of the flux on an explicit cluster, by SI constants of scipy, by ASE's
integrator, or by the clock.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ase
import ase.io
import numba
import numpy as np
import pytest
import scipy.constants as si
import torch
from ase.md.verlet import VelocityVerlet as AseVerlet
from numpy.typing import NDArray

import gkflux
import stepson
from gkflux.ase import Calculator
from gkflux.dynamics.config import load
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.run import run
from gkflux.dynamics.setup import prepare
from gkflux.dynamics.state import State, draw_velocities, remove_momentum
from gkflux.dynamics.verlet import VelocityVerlet
from gkflux.errors import GkfluxWarning
from gkflux.flux import edge_powers, fluxes
from gkflux.potentials.load import load_potential
from gkflux.system import System
from stepson.units import ASE_TIME, BOLTZMANN, KINETIC

Array = NDArray[np.float64]
CORNERS = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
SIDE = 5.35


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small systems gain nothing from threads, and lose much on a busy machine."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def cell() -> Any:
    """The cubic cell of argon, shorter than the cutoff of the model."""
    return ase.Atoms("Ar4", scaled_positions=CORNERS, cell=[SIDE] * 3, pbc=True)


def crystal(times: int = 2) -> System:
    return System.from_ase(cell()).repeat(times)


RUN = """
[system]
structure = "structure.xyz"
lattice = "lattice.xyz"
supercell = {supercell}
temperature = {temperature}
seed = 3
[potential]
model = "{model}"
dtype = "{dtype}"
[[stage]]
name = "warm"
ensemble = "langevin"
timestep = 4.0
steps = 40
friction = 0.02
[[stage]]
name = "production"
timestep = 4.0
steps = 20
replicas = 2
record = {{ every = 5, dtype = {{ positions = "float64", velocities = "float64" }} }}
heat_flux = {{ every = 5, gauge = "{gauge}" }}
[output]
folder = "out"
"""


class Case(NamedTuple):
    model: str
    dtype: str
    gauge: str
    supercell: tuple[int, int, int]
    slow_form: str
    """The reference on an explicit cluster, for one frame."""


CASES = [
    Case("argon", "float64", "none", (1, 1, 1), "hardy"),
    Case("argon", "float32", "none", (2, 2, 1), "unfolded"),
    Case("argon", "float64", "lattice", (2, 1, 1), "hardy"),
    Case("argon", "float32", "lattice", (2, 2, 2), "unfolded"),
    Case("zro2", "float64", "none", (1, 1, 1), "unfolded"),
    Case("zro2", "float32", "lattice", (1, 1, 1), "unfolded"),
]
TOLERANCE = {"float64": 1e-12, "float32": 3e-5}
"""Of the flux; in float32 that of the design for forces."""


def given(case: Case, request: pytest.FixtureRequest) -> tuple[Any, str, float]:
    """Atoms, model and temperature."""
    if case.model == "argon":
        return cell(), "argon", 40.0
    folder = request.getfixturevalue("shared_data") / "zro2"
    atoms: Any = System.read(folder / "300K-primitive.in").to_ase()
    return atoms, str(folder / "model_n2.torch"), 300.0


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.model}-{c.dtype}-{c.gauge}")
def test_stored_numbers_are_those_of_the_stored_frames(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    atoms, model, temperature = given(case, request)
    ase.io.write(tmp_path / "structure.xyz", atoms)
    ase.io.write(tmp_path / "lattice.xyz", atoms)
    settings = {**case._asdict(), "model": model, "supercell": list(case.supercell)}
    path = tmp_path / "run.toml"
    path.write_text(RUN.format(temperature=temperature, **settings))
    run(load(path))
    potential = load_potential(model, dtype="float64")
    perfect = System.from_ase(atoms).repeat(case.supercell)
    with stepson.open(tmp_path / "out" / "warm" / "md.son") as trajectory:
        freedom = 3 * perfect.n_atoms  # a thermostat moves the centre of mass
        assert trajectory.metadata["degrees_of_freedom"] == freedom
        kelvin = 2 * trajectory["energy_kinetic"][:] * si.e / (freedom * si.k)
        np.testing.assert_allclose(trajectory["temperature"][:], kelvin, rtol=1e-8)
    for replica in range(2):
        file = tmp_path / "out" / "production" / f"{replica:02d}" / "md.son"
        with stepson.open(file) as trajectory:
            assert trajectory.metadata["degrees_of_freedom"] == 3 * perfect.n_atoms - 3
            steps = trajectory["positions"].steps[:]
            np.testing.assert_array_equal(steps, [0, 5, 10, 15, 20])
            for name in ("velocities", "heat_flux", "energy", "temperature"):
                np.testing.assert_array_equal(trajectory[name].steps[:], steps)
            for frame in range(len(steps)):
                check_frame(trajectory, frame, potential, perfect, case, replica)


def check_frame(
    trajectory: stepson.Trajectory,
    frame: int,
    potential: Any,
    perfect: System,
    case: Case,
    replica: int,
) -> None:
    v: Array = trajectory["velocities"][frame]
    system = perfect.moved(trajectory["positions"][frame], velocities=v)
    stored: Array = trajectory["heat_flux"][frame]
    gauge: dict[str, Any] = {}
    if case.gauge == "lattice":
        gauge = {"gauge": "lattice", "lattice": trajectory.metadata["lattice"]}
    close(stored, gkflux.heat_flux(potential, system, **gauge), TOLERANCE[case.dtype])
    energy = potential(system, compute=("energy",)).energy
    tolerance = 1e-5 if case.dtype == "float32" else 1e-12
    assert abs(trajectory["energy"][frame] - energy) < tolerance * system.n_atoms
    joule = 0.5 * (perfect.masses[:, None] * si.atomic_mass * (v * 1e5) ** 2).sum()
    kelvin = 2 * joule / ((3 * system.n_atoms - 3) * si.k)
    assert trajectory["energy_kinetic"][frame] == pytest.approx(joule / si.e, rel=1e-8)
    assert trajectory["temperature"][frame] == pytest.approx(kelvin, rel=1e-8)
    momentum = (perfect.masses[:, None] * v).sum(axis=0)
    assert np.abs(momentum).max() < 1e-12 * np.abs(perfect.masses[:, None] * v).sum()
    if (frame, replica) == (2, 1):
        slow = gkflux.heat_flux(potential, system, formulation=case.slow_form, **gauge)
        close(stored, slow, TOLERANCE[case.dtype])
        with pytest.warns(GkfluxWarning, match="wrong conductivity"):
            local = gkflux.heat_flux(potential, system, formulation="local", **gauge)
        assert np.linalg.norm(stored - local) > 1e-3 * np.linalg.norm(stored)


def close(found: Array, expected: Array, tolerance: float) -> None:
    assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)


def test_a_wrapped_small_cell_keeps_its_lattice(tmp_path: Path) -> None:
    """Atoms wrapped to the other side of the small cell are at home all the same."""
    shaken = cell()
    shaken.positions += np.random.default_rng(0).normal(0, 0.05, (4, 3))
    free = System.from_ase(shaken).repeat(2).positions
    assert (shaken.get_scaled_positions(wrap=False) < 0).any()
    shaken.wrap()
    ase.io.write(tmp_path / "structure.xyz", shaken)
    ase.io.write(tmp_path / "lattice.xyz", cell())
    path = tmp_path / "run.toml"
    settings = {"model": "argon", "dtype": "float32", "gauge": "lattice"}
    path.write_text(RUN.format(supercell=[2, 2, 2], temperature=40, **settings))
    found = prepare(load(path), "cpu")
    assert found.lattice is not None
    u = found.system.positions - found.lattice
    np.testing.assert_allclose(u, free - crystal().positions, atol=1e-7)


def test_velocities_are_drawn_at_the_temperature_of_the_first_stage(
    tmp_path: Path,
) -> None:
    """With g = 3N - 3, without scaling: T scatters by sqrt(2/g) about the one asked for."""
    ase.io.write(tmp_path / "structure.xyz", cell())
    first, _, last = RUN.split("[[stage]]")
    settings = {"model": "argon", "dtype": "float32", "gauge": "none"}
    text = first.replace('lattice = "lattice.xyz"\n', "") + "[[stage]]" + last
    text = text.replace("timestep = 4.0", "timestep = 4.0\ntemperature = 90")
    text = text.replace("replicas = 2", "replicas = 40").replace("steps = 20", "steps = 1")
    path = tmp_path / "run.toml"
    path.write_text(text.format(supercell=[2, 2, 2], temperature=40, **settings))
    run(load(path))
    found = []
    for file in (tmp_path / "out" / "production").glob("*/md.son"):
        with stepson.open(file) as trajectory:
            found.append(trajectory["temperature"][0])
            assert trajectory.metadata["temperature"] == 90
    scatter = 90 * np.sqrt(2 / 93)
    assert np.mean(found) == pytest.approx(90, abs=4 * scatter / np.sqrt(40))
    assert np.std(found) == pytest.approx(scatter, rel=0.4)


# ------------------------------------------------------------------ the clock


class Instant(NamedTuple):
    positions: Array
    velocities: Array
    energies: Array
    """m v^2 / 2 + U_i, eV."""
    plain: Array
    lattice: Array


def three_instants(system: System, lattice: Array, timestep: float) -> list[Instant]:
    """Three steps of Verlet, written out, with the fluxes of the float64 engine."""
    batch = load_potential("argon", dtype="float64").batch([system])
    masses = KINETIC * system.masses[:, None]
    assert system.velocities is not None
    x, v = system.positions[None].copy(), system.velocities[None].copy()
    found = []
    for _ in range(3):
        now = batch.forces(x)
        flux = batch.heat_flux(v, lattice=lattice)
        assert flux.lattice is not None
        energies = now.energies[0] + 0.5 * masses[:, 0] * (v[0] ** 2).sum(axis=1)
        found.append(
            Instant(x[0].copy(), v[0].copy(), energies, flux.plain[0], flux.lattice[0])
        )
        v = v + 0.5 * timestep * now.forces / masses
        x = x + timestep * v
        v = v + 0.5 * timestep * batch.forces(x).forces / masses
    return found


def shaken(system: System, pbc: bool) -> System:
    rng = np.random.default_rng(1)
    x = system.positions + rng.normal(0, 0.1, system.positions.shape)
    v = rng.normal(0, 0.0015, x.shape)
    box = system.cell if pbc else None
    return System(positions=x, numbers=system.numbers, cell=box, velocities=v)


def test_a_cluster_carries_its_energy_by_the_clock() -> None:
    """d/dt of sum R0 E, and of sum r (E - u_s), by central differences."""
    sites = crystal().positions
    system = shaken(crystal(), pbc=False)
    constants = load_potential("argon").reference_energies(system.numbers)
    gauged, plain = [], []
    for timestep in (4.0, 2.0, 1.0):
        a, b, c = three_instants(system, sites, timestep)
        rate = sites.T @ (c.energies - a.energies) / (2 * timestep)
        gauged.append(np.linalg.norm(rate - b.lattice) / np.linalg.norm(rate))
        ends = [t.positions.T @ (t.energies - constants) for t in (a, c)]
        rate = (ends[1] - ends[0]) / (2 * timestep)
        plain.append(np.linalg.norm(rate - b.plain) / np.linalg.norm(rate))
    for errors in (gauged, plain):
        assert errors[2] < 3e-4
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
        assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_energies_of_a_periodic_crystal_change_by_the_power_of_its_edges() -> None:
    system = shaken(crystal(1), pbc=True)
    potential = load_potential("argon", dtype="float64")
    errors = []
    for timestep in (4.0, 2.0, 1.0):
        a, b, c = three_instants(system, system.positions, timestep)
        powers = edge_powers(potential, system.moved(b.positions), b.velocities)
        edges = powers.graph.edges
        gained = np.bincount(edges.centre, powers.power, 4)
        gained -= np.bincount(edges.other, powers.power, 4)
        rates = (c.energies - a.energies) / (2 * timestep)
        errors.append(np.abs(rates - gained).max() / np.abs(rates).max())
    assert errors[2] < 2e-4
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


# ------------------------------------------------------------------ the dynamics


def verlet(system: System, start: State, timestep: float, dtype: str = "float32") -> Engine:
    state = State.at_rest(start.positions, start.velocities)
    integrator = VelocityVerlet(system.masses, timestep=timestep)
    engine = Engine(load_potential("argon", dtype=dtype), system, state, integrator)
    engine.begin()
    return engine


def warm(system: System) -> State:
    """A state in the middle of a run at 20 K."""
    v = draw_velocities(system.masses, 40, seed=2, stage=0, replicas=[0])
    engine = verlet(system, State.at_rest(system.positions[None], v), 8.0)
    for _ in range(200):
        engine.step()
    return engine.state


def test_the_production_engine_conserves_what_it_must() -> None:
    system = crystal()
    start, spread = warm(system), []
    for timestep in (16.0, 8.0):
        engine, energies = verlet(system, start, timestep), []
        for _ in range(round(4000 / timestep)):
            engine.step()
            energies.append(engine.conserved()[0])
        spread.append(np.std(energies))
        momentum = (system.masses[:, None] * engine.state.velocities[0]).sum(axis=0)
        assert np.abs(momentum).max() < 1e-13
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.05)
    assert spread[0] < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_production_engine_finds_its_way_back(dtype: str) -> None:
    system = crystal()
    start = warm(system)
    engine = verlet(system, start, 8.0, dtype)
    for _ in range(100):
        engine.step()
    assert np.abs(engine.state.positions - start.positions).max() > 0.1
    engine.state.velocities *= -1
    for _ in range(100):
        engine.step()
    np.testing.assert_allclose(engine.state.positions, start.positions, atol=1e-11)
    np.testing.assert_allclose(-engine.state.velocities, start.velocities, atol=1e-13)


def test_ase_takes_the_same_steps() -> None:
    """Another integrator, other units: 50 steps to 1e-9 Å, and ASE's own temperature."""
    system = crystal()
    start = warm(system)
    atoms: Any = system.moved(start.positions[0], velocities=start.velocities[0]).to_ase()
    atoms.calc = Calculator(load_potential("argon", dtype="float64"))
    assert ase.units.fs * ASE_TIME == pytest.approx(1, rel=3e-8)
    AseVerlet(atoms, timestep=4.0 / ASE_TIME).run(50)  # type: ignore[no-untyped-call]
    engine = verlet(system, start, 4.0, "float64")
    for _ in range(50):
        engine.step()
    x, v = engine.state.positions[0], engine.state.velocities[0]
    assert np.abs(x - start.positions[0]).max() > 0.1
    np.testing.assert_allclose(atoms.positions, x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(atoms.get_velocities() / ASE_TIME, v, rtol=0, atol=1e-12)
    kelvin = atoms.get_temperature() * 96 / 93  # ASE counts 3N
    assert engine.temperature()[0] == pytest.approx(kelvin, rel=1e-6)


def test_langevin_on_a_crystal_is_exact_at_a_finite_timestep() -> None:
    """BAOAB at 0.05 K, ω dt up to 0.65: forces at T, velocities at T (1 - <ω²> dt²/4)."""
    system, timestep, kelvin, replicas = crystal(), 60.0, 0.05, 32
    stiffness, omega_squared = harmonic(system)
    integrator = Langevin(
        system.masses,
        timestep=timestep,
        temperature=kelvin,
        friction=0.02,
        streams=Langevin.streams(1, 0, range(replicas)),
    )
    v = draw_velocities(system.masses, kelvin, seed=1, stage=0, replicas=range(replicas))
    state = State.at_rest(np.stack([system.positions] * replicas), v)
    engine = Engine(load_potential("argon"), system, state, integrator)
    engine.begin()
    kinetic, configurational = [], []
    for step in range(400):
        engine.step()
        if step >= 100:
            kinetic.append(engine.temperature())
            square = (engine.evaluation.forces**2).sum(axis=(1, 2))
            configurational.append(square / (stiffness * BOLTZMANN))
    theory = 1 - omega_squared * timestep**2 / 4
    assert theory < 0.96
    for found, expected in ((kinetic, theory), (configurational, 1.0)):
        means = np.mean(found, axis=0) / kelvin
        error = means.std(ddof=1) / np.sqrt(replicas)
        assert error < 0.006
        assert abs(means.mean() - expected) < 4 * error


def harmonic(system: System) -> tuple[float, float]:
    """Trace of the force constants, eV/Å², and mean ω² of all 3N modes, 1/fs²."""
    batch = load_potential("argon", dtype="float64").batch([system])
    step, trace = 1e-4, 0.0
    for i in range(system.positions.size):
        kick = np.zeros(system.positions.size)
        kick[i] = step
        moved = kick.reshape(1, -1, 3)
        ahead = batch.forces(system.positions + moved).forces.ravel()[i]
        behind = batch.forces(system.positions - moved).forces.ravel()[i]
        trace -= float(ahead - behind) / (2 * step)
    return trace, trace / (KINETIC * system.masses[0]) / system.positions.size


# ------------------------------------------------------------------ lists and boxes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_atoms_that_jump_through_the_skin_leave_no_trace(dtype: str) -> None:
    """Jumps of Ångströms, atoms cells apart: the bits of a batch made for the occasion."""
    system, rng = crystal(), np.random.default_rng(3)
    potential = load_potential("argon", dtype=dtype)
    batch = potential.batch([system, system])
    x = system.positions + rng.normal(0, 0.1, (2, system.n_atoms, 3))
    v = rng.normal(0, 0.0015, x.shape)
    batch.forces(x)
    for turn in range(4):
        x = x + rng.normal(0, 0.05, x.shape)
        x[turn % 2, turn] += rng.normal(0, 3, 3)
        x[1, 7] += turn * np.array([2 * SIDE, 0, 0])
        now, flux = batch.forces(x), batch.heat_flux(v, lattice=system.positions)
        for r in range(2):
            fresh = potential.batch([system.moved(x[r])], skin=0.3 * turn)
            alone = fresh.forces(x[r : r + 1])
            for mine, theirs in zip(now, alone, strict=True):
                assert mine[r].tobytes() == theirs[0].tobytes()
            flux_alone = fresh.heat_flux(v[r : r + 1], lattice=system.positions)
            for gauge in ("plain", "lattice"):
                theirs = getattr(flux_alone, gauge)[0]
                assert getattr(flux, gauge)[r].tobytes() == theirs.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_replicas_may_have_cells_of_their_own(dtype: str) -> None:
    perfect, rng = crystal(), np.random.default_rng(4)
    assert perfect.cell is not None
    shapes = (
        np.eye(3),
        1.02 * np.eye(3),
        np.array([[1, 0, 0], [0.06, 1, 0], [0, 0.05, 1]]),
    )
    systems = [
        System(
            positions=perfect.positions @ s, numbers=perfect.numbers, cell=perfect.cell @ s
        )
        for s in shapes
    ]
    exact = load_potential("argon", dtype="float64")
    batch = load_potential("argon", dtype=dtype).batch(systems)
    x = np.stack([s.positions for s in systems]) + rng.normal(0, 0.1, (3, 32, 3))
    v = rng.normal(0, 0.0015, x.shape)
    batch.forces(x)
    flux = batch.heat_flux(v).plain
    for r, system in enumerate(systems):
        close(flux[r], fluxes(exact, system.moved(x[r]), v[r]).plain, TOLERANCE[dtype])


def test_an_atom_among_its_own_images_carries_the_stress() -> None:
    primitive = SIDE / 2 * (1 - np.eye(3))
    system = System(positions=[[0.1, 0.2, 0.3]], numbers=[18], cell=primitive)
    batch = load_potential("argon").batch([system])
    now, v = batch.forces(system.positions[None]), np.array([1e-3, 2e-3, -1e-3])
    assert np.abs(now.forces).max() < 1e-12
    flux = batch.heat_flux(v[None, None], convective=False).plain[0]
    close(flux, -now.virial[0] @ v, 1e-12)


@pytest.mark.parametrize("height", [0.0, 40.0])
def test_a_slab(height: float) -> None:
    perfect, rng = crystal(), np.random.default_rng(5)
    x = perfect.positions + rng.normal(0, 0.1, perfect.positions.shape) + [0, 0, 5]
    box = np.diag([2 * SIDE, 2 * SIDE, height])
    v = rng.normal(0, 0.0015, x.shape)
    slab = System(
        positions=x,
        numbers=perfect.numbers,
        cell=box,
        pbc=[True, True, False],
        velocities=v,
    )
    exact = load_potential("argon", dtype="float64")
    slow = gkflux.heat_flux(exact, slab, formulation="unfolded")
    for dtype in ("float32", "float64"):
        batch = load_potential("argon", dtype=dtype).batch([slab])
        batch.forces(x[None])
        close(batch.heat_flux(v[None]).plain[0], slow, TOLERANCE[dtype])


def test_atoms_may_leave_an_open_box_on_the_way(tmp_path: Path) -> None:
    """The second stage, a restart and ASE take a slab as the first stage has left it."""
    slab = cell() * (2, 2, 2)
    slab.pbc = [True, True, False]
    slab.positions[:, 2] += 0.02
    ase.io.write(tmp_path / "structure.xyz", slab)
    settings = {"model": "argon", "dtype": "float32", "gauge": "none"}
    text = RUN.format(supercell=[1, 1, 1], temperature=40, **settings)
    without = [s for s in text.splitlines() if not s.startswith(("lattice", "heat_flux"))]
    path = tmp_path / "run.toml"
    path.write_text("\n".join(without))
    assert run(load(path)).finished
    assert run(load(path), steps=40).finished
    with stepson.open(tmp_path / "out" / "warm" / "md.son") as trajectory:
        assert trajectory["positions"][-1][:, 2].min() < 0
    slab.calc = Calculator(load_potential("argon"))
    before = slab.get_potential_energy()
    slab.positions[:, 2] -= 1.0
    assert slab.get_potential_energy() == pytest.approx(before, abs=1e-6)


def test_momentum_is_removed_from_what_a_file_brings(tmp_path: Path) -> None:
    """Whatever the start: the centre of mass of an nve stage rests."""
    system, rng = crystal(), np.random.default_rng(6)
    v = rng.normal(0, 0.0015, (1, 32, 3)) + 0.01
    before = v.copy()
    remove_momentum(v, system.masses)
    assert np.ptp(before - v, axis=1).max() < 1e-16
    moving = system.moved(system.positions, velocities=before[0]).to_ase()
    ase.io.write(tmp_path / "structure.extxyz", moving)
    nve = RUN.split("[[stage]]")
    text = nve[0].replace("structure.xyz", "structure.extxyz") + "[[stage]]" + nve[2]
    text = text.replace("replicas = 2\n", "").replace('lattice = "lattice.xyz"\n', "")
    settings = {"model": "argon", "dtype": "float32", "gauge": "none"}
    text = text.format(supercell=[1, 1, 1], temperature=40, **settings)
    path = tmp_path / "run.toml"
    path.write_text(text.replace("seed = 3", 'velocities = "file"'))
    run(load(path))
    with stepson.open(tmp_path / "out" / "production" / "md.son") as trajectory:
        np.testing.assert_allclose(trajectory["velocities"][0], v[0], rtol=0, atol=1e-9)
        assert trajectory.metadata["momentum_removed"] is True
