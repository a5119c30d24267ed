"""Thermostats and barostats: the distributions that they must give."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from gkflux.dynamics import cell_guards, cell_rescaling
from gkflux.dynamics.cell_guards import CellError
from gkflux.dynamics.csvr import StochasticRescaling
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.ensembles import Ensemble
from gkflux.dynamics.integrators import integrator, static_compressibility
from gkflux.dynamics.state import (
    Floats,
    State,
    draw_velocities,
    kinetic_energy,
    volumes,
)
from gkflux.system import System
from stepson.units import BOLTZMANN, GPA, KINETIC
from tests.gkflux.dynamics.gases import SIDE, Gas, gas, parabola
from tests.gkflux.dynamics.harmonic import Harmonic, oscillators
from tests.gkflux.dynamics.lennard_jones import (
    ReducedLennardJones,
    fcc,
    lattice_pressure,
    tail_pressure,
)

KT = BOLTZMANN * 300
CSVR = Ensemble("csvr", relaxation=20.0)


def engine(
    n: int,
    replicas: Sequence[int],
    ensemble: Ensemble,
    potential: Gas | None = None,
    *,
    timestep: float = 2.0,
    start: float = 300,
    seed: int = 1,
) -> Engine:
    """A batch of gases at 300 K, whose velocities were drawn at `start`, K."""
    system = gas(n)
    moves = integrator(
        ensemble,
        system.masses,
        timestep=timestep,
        temperature=300,
        seed=seed,
        stage=0,
        replicas=replicas,
    )
    v = draw_velocities(system.masses, start, seed=seed, stage=0, replicas=replicas)
    state = State.at_rest(np.stack([system.positions] * len(replicas)), v)
    md = Engine(potential or Gas(), system, state, moves, numbers=replicas)
    md.begin()
    return md


def advance(md: Engine, steps: int) -> Engine:
    for _ in range(steps):
        md.step()
    return md


def kinetic(md: Engine) -> Floats:
    return kinetic_energy(md.state.velocities, md.masses)


def assert_distributed(values: Floats, distribution: Any) -> None:
    """Mean, variance and shape, of independent values, each to 4 standard errors or so."""
    n, mean, variance = len(values), distribution.mean(), distribution.var()
    own = isinstance(distribution, Density)
    excess = distribution.kurtosis() if own else float(distribution.stats("k"))
    fourth = variance**2 * (excess + 3)
    assert abs(values.mean() - mean) < 4 * np.sqrt(variance / n)
    error = np.sqrt((fourth - variance**2) / n)
    assert abs(((values - mean) ** 2).mean() - variance) < 4 * error
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("n", [2, 3, 40])
def test_csvr_gives_the_kinetic_energy_of_the_canonical_ensemble(n: int) -> None:
    """Started at 900 K: 2 K / kT is chi-square with g degrees of freedom."""
    md = advance(engine(n, range(1500), CSVR, start=900), 100)
    found = [kinetic(advance(md, 60)) for _ in range(2)]
    g = 3 * n - 3
    assert_distributed(2 * np.concatenate(found) / KT, stats.chi2(g))


def test_csvr_relaxes_in_the_time_that_was_asked_for() -> None:
    md = engine(4, range(4000), CSVR, start=900)
    before, equal = kinetic(md).mean(), 9 * KT / 2
    for _ in range(3):
        advance(md, 5)
        expected = equal + (before - equal) * np.exp(-10 / 20)
        assert kinetic(md).mean() == pytest.approx(expected, rel=0.03)
        before = expected


def test_csvr_of_one_degree_of_freedom_is_langevins_equation() -> None:
    """Then v' = sqrt(c) v + noise, which holds only with the right sign of the factor."""
    masses = np.array([40.0])
    thermostat = StochasticRescaling(
        masses,
        timestep=10.0,
        temperature=300,
        relaxation=20.0,
        freedom=1,
        streams=StochasticRescaling.streams(3, 0, range(20_000)),
    )
    v = np.zeros((20_000, 1, 3))
    v[:, 0, 0] = 1e-3
    state = State.at_rest(np.zeros_like(v), v)
    width, keep = np.sqrt(KT / (KINETIC * 40)), np.exp(-10 / 40)
    mean, variance = 1e-3, 0.0
    for step in range(4):
        state.step = step
        thermostat.thermostat(state)
        mean, variance = keep * mean, keep**2 * variance + (1 - keep**2) * width**2
        normal = stats.norm(mean, np.sqrt(variance))
        assert_distributed(state.velocities[:, 0, 0], normal)
    assert (state.velocities[:, 0, 1:] == 0).all()


def test_csvr_changes_no_direction_and_gives_no_momentum() -> None:
    md = engine(5, range(3), CSVR)
    before = md.state.velocities.copy()
    advance(md, 200)
    after = md.state.velocities
    ratio = after / before
    np.testing.assert_allclose(
        ratio, np.broadcast_to(ratio[:, :1, :1], ratio.shape), rtol=1e-12
    )
    momentum = (md.masses[:, None] * after).sum(axis=1)
    assert np.abs(momentum).max() < 1e-12 * np.abs(md.masses[:, None] * after).max()


def test_csvr_counts_the_heat_that_it_gives() -> None:
    system, potential = oscillators(64), Harmonic([1.0, 2.0, 3.0, 4.0], quartic=5.0)
    moves = integrator(
        Ensemble("csvr", relaxation=50.0),
        system.masses,
        timestep=1.0,
        temperature=300,
        seed=5,
        stage=0,
        replicas=[0],
    )
    v = draw_velocities(system.masses, 300, seed=5, stage=0, replicas=[0])
    md = Engine(potential, system, State.at_rest(system.positions[None], v), moves)
    md.begin()
    start = float(md.conserved()[0])
    advance(md, 2000)
    given = abs(float(md.state.heat[0]))
    assert given > 0.5
    assert abs(float(md.conserved()[0]) - start) < 0.01 * given


def test_atoms_at_rest_wait_for_forces() -> None:
    md = engine(3, range(2), CSVR)
    md.state.velocities[:] = 0
    advance(md, 2)
    assert (md.state.velocities == 0).all()
    assert (md.state.heat == 0).all()


# --- constant pressure --------------------------------------------------------------------

PRESSURE = 0.04


def npt(thermostat: str, **changes: float) -> Ensemble:
    values = {"pressure": PRESSURE, "compressibility": 25.0, "pressure_relaxation": 200.0}
    how = {"csvr": {"relaxation": 20.0}, "langevin": {"friction": 0.05}}[thermostat]
    return Ensemble("npt", **(values | how | changes))


@pytest.fixture
def any_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few atoms of a gas take volumes that would mean the end of a crystal."""
    monkeypatch.setattr(cell_guards, "SMALLEST", 0.0)
    monkeypatch.setattr(cell_guards, "LARGEST", np.inf)
    monkeypatch.setattr(cell_rescaling, "LARGEST", 0.5)


def sampled(md: Engine, equilibrate: int, apart: int, times: int) -> tuple[Floats, Floats]:
    """Volumes and kinetic energies of all replicas, at times that far apart."""
    advance(md, equilibrate)
    volume, energy = [], []
    for _ in range(times):
        advance(md, apart)
        assert md.state.cells is not None
        volume.append(volumes(md.state.cells))
        energy.append(kinetic(md))
    return np.concatenate(volume), np.concatenate(energy)


class Density:
    """A distribution from the logarithm of its density, up to a constant."""

    def __init__(self, log: Callable[[Floats], Floats], low: float, high: float) -> None:
        self._x = np.linspace(low, high, 20_001)
        values = log(self._x)
        density = np.exp(values - values.max())
        cumulative = integrate.cumulative_simpson(density, x=self._x, initial=0)
        self._below = cumulative / cumulative[-1]
        self._density = density / cumulative[-1]

    def cdf(self, x: Floats) -> Floats:
        return np.asarray(np.interp(x, self._x, self._below))

    def _moment(self, power: int) -> float:
        about = 0.0 if power == 1 else self.mean()
        values = self._density * (self._x - about) ** power
        return float(integrate.simpson(values, x=self._x))

    def mean(self) -> float:
        return self._moment(1)

    def var(self) -> float:
        return self._moment(2)

    def kurtosis(self) -> float:
        return self._moment(4) / self._moment(2) ** 2 - 3


@pytest.mark.usefixtures("any_volume")
@pytest.mark.parametrize("thermostat", ["csvr", "langevin"])
def test_volume_of_an_ideal_gas(thermostat: str) -> None:
    """n atoms: p(V) ~ V^n exp(-P V / kT), a gamma distribution, whatever E_kin is."""
    n, p = 8, PRESSURE / GPA
    md = engine(n, range(600), npt(thermostat))
    volume, energy = sampled(md, 600, 400, 4)
    assert_distributed(volume, stats.gamma(n + 1, scale=KT / p))
    g = 3 * n - (3 if thermostat == "csvr" else 0)
    assert_distributed(2 * energy / KT, stats.chi2(g))
    assert abs(np.corrcoef(volume, energy)[0, 1]) < 4 / np.sqrt(len(volume))


@pytest.mark.usefixtures("any_volume")
@pytest.mark.parametrize("thermostat", ["csvr", "langevin"])
def test_volume_of_a_gas_with_a_bulk_energy(thermostat: str) -> None:
    """p(V) ~ V^n exp(-(f(V) + P V) / kT): the virial counts, too."""
    n, p, centre, modulus = 6, PRESSURE / GPA, 950.0, 0.004
    potential = Gas(bulk=parabola(centre, modulus))
    md = engine(n, range(600), npt(thermostat, compressibility=1.0), potential)
    volume, _ = sampled(md, 600, 300, 4)

    def log(v: Floats) -> Floats:
        return n * np.log(v) - (potential.bulk(v)[0] + p * v) / KT

    expected = Density(log, 200, 1800)
    assert np.sqrt(expected.var()) / expected.mean() > 0.08
    assert_distributed(volume, expected)


def test_volume_of_an_einstein_crystal() -> None:
    """Springs to fixed fractions of the cell: V^n of the atoms is gone, f alone is left."""
    p, centre, modulus = PRESSURE / GPA, 1000.0, 0.02
    potential = Gas(spring=1.0, bulk=parabola(centre, modulus))
    ensemble = npt("langevin", compressibility=0.3, pressure_relaxation=400.0)
    md = engine(6, range(600), ensemble, potential)
    volume, _ = sampled(md, 1000, 500, 3)

    def log(v: Floats) -> Floats:
        return -(potential.bulk(v)[0] + p * v) / KT

    assert_distributed(volume, Density(log, 500, 1500))


@pytest.mark.usefixtures("any_volume")
def test_the_pace_changes_no_distribution() -> None:
    n, p = 8, PRESSURE / GPA
    ensemble = npt("csvr", compressibility=9.0, pressure_relaxation=100.0)
    volume, _ = sampled(engine(n, range(600), ensemble, seed=9), 800, 400, 3)
    assert_distributed(volume, stats.gamma(n + 1, scale=KT / p))


@pytest.mark.parametrize("thermostat", ["csvr", "langevin"])
def test_energy_less_all_heat_is_conserved_while_the_volume_fluctuates(
    thermostat: str,
) -> None:
    """Over 40 relaxation times: without the virial after each change it drifts by 40 kT."""
    potential = Gas(spring=1.0, bulk=parabola(1000.0, 0.02))
    ensemble = npt(thermostat, compressibility=0.3, pressure_relaxation=100.0)
    md = engine(20, range(50), ensemble, potential, timestep=1.0)
    start = md.conserved()
    advance(md, 4000)
    change = md.conserved() - start
    assert np.abs(md.state.heat).mean() > 5 * KT
    assert abs(change.mean()) < 0.5 * KT
    assert change.std() < 2 * KT


@pytest.mark.usefixtures("any_volume")
def test_virial_and_kinetic_part_make_the_pressure_that_is_measured() -> None:
    md = engine(8, range(400), npt("csvr"))
    total = np.zeros(400)
    advance(md, 600)
    for _ in range(100):
        advance(md, 20)
        total += md.measure(["pressure"])["pressure"]
    assert GPA * (total / 100).mean() == pytest.approx(PRESSURE, rel=0.02)


def states(md: Engine) -> tuple[Floats, Floats, Floats, Floats]:
    assert md.state.cells is not None
    return md.state.positions, md.state.velocities, md.state.heat, md.state.cells


@pytest.mark.parametrize("ensemble", [CSVR, npt("csvr"), npt("langevin")])
def test_same_bits_in_any_company_and_after_a_restart(ensemble: Ensemble) -> None:
    potential = Gas(spring=1.0, bulk=parabola(1000.0, 0.02))
    if ensemble.changes_cell:
        ensemble = replace(ensemble, compressibility=0.3)
    together = states(advance(engine(5, [0, 1, 2], ensemble, potential), 40))
    for replica in range(3):
        alone = states(advance(engine(5, [replica], ensemble, potential), 40))
        for mine, all_of_them in zip(alone, together, strict=True):
            assert mine[0].tobytes() == all_of_them[replica].tobytes()
    assert not np.any(together[1][0] == together[1][1])
    half = advance(engine(5, [0, 1, 2], ensemble, potential), 15).state
    resumed = engine(5, [0, 1, 2], ensemble, potential)
    for name in ("positions", "velocities", "heat", "cells"):
        getattr(resumed.state, name)[:] = getattr(half, name)
    resumed.state.step = 15
    resumed.begin()
    for mine, whole in zip(states(advance(resumed, 25)), together, strict=True):
        assert mine.tobytes() == whole.tobytes()


def test_a_cell_that_changes_too_fast_stops_with_step_and_replica() -> None:
    md = engine(4, [5, 6], npt("csvr", pressure=4000.0, compressibility=1.0))
    with pytest.raises(CellError, match=r"multiplied by .* in one step") as caught:
        advance(md, 100)
    assert caught.value.step == md.state.step + 1
    assert caught.value.replica in (5, 6)
    assert "Check the pressure (GPa)" in str(caught.value)


def test_a_cell_that_collapses_slowly_stops_too() -> None:
    md = engine(4, [5, 6], npt("csvr", pressure=40.0, compressibility=0.1))
    with pytest.raises(CellError, match="times that of the structure: it has collapsed"):
        advance(md, 2000)
    assert md.state.step > 5


def test_compressibility_of_the_structure_at_rest() -> None:
    system, modulus = gas(4), 0.3
    batch = Gas(bulk=parabola(SIDE**3, modulus)).batch([system])
    assert static_compressibility(batch, system) == float(f"{1 / (modulus * GPA):.2g}")
    soft = Gas(bulk=parabola(SIDE**3, -modulus)).batch([system])
    with pytest.raises(ValueError, match="give compressibility"):
        static_compressibility(soft, system)


def test_parameters_that_do_not_fit() -> None:
    for ensemble, message in (
        (Ensemble("nvt"), "'nvt' is not known; known are nve, langevin, csvr, npt"),
        (Ensemble("csvr"), "needs relaxation"),
        (Ensemble("csvr", relaxation=1.0, friction=0.1), "friction has no meaning"),
        (Ensemble("npt", relaxation=1.0), "needs pressure"),
        (Ensemble("npt", pressure=0.0), "needs one thermostat"),
        (Ensemble("npt", pressure=0.0, relaxation=1.0, friction=1.0), "one thermostat"),
        (Ensemble("langevin", friction=-1.0), "friction = -1.0 is no such value"),
        (Ensemble("npt", pressure=np.nan, relaxation=1.0), "pressure = nan"),
    ):
        with pytest.raises(ValueError, match=message):
            ensemble.check()
    Ensemble("npt", pressure=-2.0, relaxation=100.0).check()


# --- against published equations of state -------------------------------------------------


def solid_density(kelvin: float) -> float:
    """Lennard-Jones fcc where it sublimates, at next to no pressure, reduced units.

    M. A. van der Hoef, J. Chem. Phys. 117, 5092 (2002), equation 3.
    """
    t = kelvin
    rest = np.sqrt(14.45392093 / (2 * 6.065940096))
    return float(rest + t * (-0.134343 + t * (-0.0950795 + t * (0.137215 - 0.161890 * t))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("warm", "tolerance"), [(0.15, 0.001), (0.30, 0.0015), (0.45, 0.003)]
)
def test_thermal_expansion_of_the_lennard_jones_solid(
    warm: float, tolerance: float
) -> None:
    """256 atoms at zero pressure of the untruncated potential, against published densities.

    What lies beyond the cutoff is added to the pressure as lattice sums. The modulus that
    the fluctuations of the volume give is that of the published pressures, too.
    """
    density, cutoff = solid_density(warm), 3.05
    beyond = lattice_pressure(density, cutoff)
    volume = reduced(fcc(4, 1.01 * density), cutoff, warm, -beyond, 12_000)
    assert 256 / volume.mean() == pytest.approx(density, rel=tolerance)
    modulus = warm * volume.mean() / volume.var()
    # at T = 0.15, 0.30, 0.45, from the same author's J. Chem. Phys. 113, 8142 (2000)
    published = {0.15: 64.3, 0.30: 53.6, 0.45: 43.2}[warm] - 2 * beyond
    assert modulus == pytest.approx(published, rel=0.35)


@pytest.mark.slow
def test_density_of_the_lennard_jones_liquid() -> None:
    """T = 0.85, P = 0.55355: 0.82, the NIST Standard Reference Simulation Website."""
    density, cutoff = 0.82, 3.0
    beyond = tail_pressure(density, cutoff)
    volume = reduced(fcc(4, density), cutoff, 0.85, 0.55355 - beyond, 16_000, modulus=13)
    assert 256 / volume.mean() == pytest.approx(density, rel=0.004)


def reduced(
    system: System,
    cutoff: float,
    warm: float,
    pressure: float,
    steps: int,
    modulus: float = 50,
) -> Floats:
    """Volumes ``(steps, 2)`` of two replicas, in reduced units."""
    unit, kelvin = np.sqrt(KINETIC * 40), warm / BOLTZMANN
    ensemble = Ensemble(
        "npt",
        relaxation=unit / 2,
        pressure=pressure * GPA,
        compressibility=1 / (modulus * GPA),
        pressure_relaxation=unit / 2,
    )
    moves = integrator(
        ensemble,
        system.masses,
        timestep=0.005 * unit,
        temperature=kelvin,
        seed=2,
        stage=0,
        replicas=[0, 1],
    )
    v = draw_velocities(system.masses, 2 * kelvin, seed=2, stage=0, replicas=[0, 1])
    state = State.at_rest(np.stack([system.positions] * 2), v)
    md = Engine(ReducedLennardJones(cutoff), system, state, moves)
    md.begin()
    advance(md, 2500)
    found = []
    for _ in range(steps):
        md.step()
        assert state.cells is not None
        found.append(volumes(state.cells))
    return np.array(found)
