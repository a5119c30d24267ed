"""From a file on the disk to kappa in W/(m K): against arithmetic that shares nothing.

Files are written as a run writes them, with a heat flux whose integral is known exactly,
and reduced by the command `stepson gk`. The curves are compared with sums written out and
constants of scipy, the number with the exact integral.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.constants as si
from numpy.typing import NDArray
from scipy.signal import lfilter

import gkflux
import stepson
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.state import State, draw_velocities, remove_momentum
from gkflux.dynamics.verlet import VelocityVerlet
from gkflux.errors import FluxError
from gkflux.potentials.load import load_potential
from gkflux.system import System
from gkflux.trajectories import trajectory_runs
from stepson_cli.main import main

Array = NDArray[np.float64]
PHI, AMPLITUDE, TIMESTEP, EVERY = 0.8, 0.01, 4.0, 2
SPACING = TIMESTEP * EVERY
ABOUT: dict[str, Any] = {"gauge": "none", "formulation": "semilocal", "convective": True}
SMALL = {"temperature": "K", "energy": "eV", "energy_kinetic": "eV", "volume": "Å³"}
FIELDS = [
    stepson.Field("heat_flux", "float64", (3,), "eV Å/fs", every=EVERY, attributes=ABOUT),
    *(stepson.Field(name, "float64", (), u, every=EVERY) for name, u in SMALL.items()),
]


def process(seed: int, samples: int) -> Array:
    """x_t = phi x_(t-1) + noise in three directions, eV Å/fs."""
    noise = np.random.default_rng(seed).normal(size=(samples + 300, 3))
    return np.asarray(AMPLITUDE * lfilter([1], [1, -PHI], noise, axis=0)[300:])


def prefactor(kelvin: float, volume: float) -> float:
    """1/(V kB T²) for an integral of J² in eV² Å²/fs, in W/(m K): everything in SI."""
    flux = si.e * si.angstrom / si.femto
    return float(flux**2 * si.femto / (volume * si.angstrom**3 * si.k * kelvin**2))


def exact(kelvin: float, volume: float) -> float:
    """C(0)/2 + C(1) + C(2) + ... of the process is sigma² / (1 - phi)² / 2."""
    integral = SPACING * AMPLITUDE**2 / (1 - PHI) ** 2 / 2
    return prefactor(kelvin, volume) * integral


def write(
    path: Path,
    flux: Array,
    kelvin: float = 300.0,
    volume: float = 1000.0,
    *,
    first: int = 0,
    parent: Path | None = None,
    frames: int | None = None,
    **metadata: Any,
) -> Path:
    """Write a file; the cell and the target in METADATA are not what was measured."""
    before = None if parent is None else stepson.open(parent)
    out = stepson.create(
        path,
        fields=FIELDS,
        numbers=[14] * 8,
        masses=metadata.pop("masses", [28.0] * 8),
        cell=np.eye(3) * 10,
        timestep=TIMESTEP,
        parent=before,
        commit="manual",
        metadata={
            "ensemble": "nve",
            "stage": {"name": "production", "index": 1, "steps": EVERY * len(flux)},
            "temperature": 300.0,
            "degrees_of_freedom": 21,
            "potential": {"file": "model", "sha256": "00", "kind": "schnet"},
            "heat_flux": {"every": EVERY, **ABOUT},
            **metadata,
        },
    )
    with out:
        for start in range(0, len(flux), frames or len(flux)):
            part = flux[start : start + (frames or len(flux))]
            n = len(part)
            out.extend(
                steps=first + EVERY * np.arange(start, start + n),
                heat_flux=part,
                temperature=np.full(n, kelvin),
                energy=np.full(n, -6.0),
                energy_kinetic=np.full(n, 1.0),
                volume=np.full(n, volume),
            )
            out.commit()
    if before is not None:
        before.close()
    return path


def reduced(*files: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Run the command; return gk.json and the curves."""
    folder = files[0].parent / f"gk-{files[0].stem}"
    assert main(["gk", *map(str, files), "--output", str(folder)]) == 0
    with np.load(folder / "gk.npz") as curves:
        return json.loads((folder / "gk.json").read_text()), dict(curves)


def test_value_and_unit_are_those_of_si(tmp_path: Path) -> None:
    flux = process(0, 40_000)
    found, curves = reduced(write(tmp_path / "md.son", flux, 330.0, 1100.0))
    assert found["unit"] == "W/(m K)"
    assert found["temperature_K"] == pytest.approx(330, rel=1e-12)
    assert found["volume_A3"] == pytest.approx(1100, rel=1e-12)
    assert abs(found["kappa"] - exact(330, 1100)) < 3 * found["kappa_std"]
    assert found["kappa_std"] < 0.09 * found["kappa"]
    # lag by lag: C_ab(k) = <J_a(t + k) J_b(t)>, then trapezoids from zero
    x, lags = flux - flux.mean(axis=0), 50
    direct = np.array([x[k:].T @ x[: len(x) - k] / (len(x) - k) for k in range(lags)])
    scale = prefactor(330, 1100)
    areas = np.concatenate([[np.zeros((3, 3))], (direct[1:] + direct[:-1]) / 2])
    running = scale * SPACING * np.cumsum(areas, axis=0)
    close = 1e-9 * found["kappa"]
    np.testing.assert_allclose(curves["kappa_cumulative"][:lags], running, atol=close)
    autocorrelation = curves["autocorrelation"][:lags] * 330**2 * 1100
    np.testing.assert_allclose(autocorrelation, direct, atol=1e-11 * direct[0, 0, 0])
    np.testing.assert_allclose(curves["lag_time"][:3], [0, SPACING, 2 * SPACING])


def test_commits_and_continuations_change_nothing(tmp_path: Path) -> None:
    flux = process(1, 12_000)
    whole, curves = reduced(write(tmp_path / "whole.son", flux))
    ragged, same = reduced(write(tmp_path / "ragged.son", flux, frames=997))
    assert ragged["kappa"] == whole["kappa"]
    np.testing.assert_array_equal(same["autocorrelation"], curves["autocorrelation"])
    files: list[Path] = []
    for start, stop in ((0, 4000), (4000, 4007), (4007, 4008), (4008, 12_000)):
        name = tmp_path / f"part{start}.son"
        parent = files[-1] if files else None
        files.append(write(name, flux[start:stop], first=EVERY * start, parent=parent))
    joined, same = reduced(*files)
    assert len(joined["inputs"]) == 1
    assert joined["kappa"] == pytest.approx(whole["kappa"], rel=1e-12)
    np.testing.assert_allclose(
        same["autocorrelation"],
        curves["autocorrelation"],
        atol=1e-13 * curves["autocorrelation"][0].max(),
    )


def test_replicas_are_scaled_by_their_own_temperature_and_volume(tmp_path: Path) -> None:
    """Flux times T sqrt V: every replica has the kappa of the reference state."""
    series, files = [process(5 + r, 10_000) for r in range(3)], []
    states = [(280.0, 900.0), (300.0, 1000.0), (330.0, 1300.0)]
    for r, (flux, (kelvin, volume)) in enumerate(zip(series, states, strict=True)):
        scaled = flux * (kelvin / 300) * np.sqrt(volume / 1000)
        files.append(write(tmp_path / f"{r:02d}.son", scaled, kelvin, volume, replica=r))
    found, _ = reduced(*files)
    expected = gkflux.kappa(series, timestep=SPACING, volume=1000.0, temperature=300.0)
    assert found["kappa"] == pytest.approx(expected.kappa, rel=1e-9)
    np.testing.assert_allclose(found["replicas"], expected.replicas, rtol=1e-9)
    assert abs(found["kappa"] - exact(300, 1000)) < 3 * found["kappa_std"]


def test_isotopes_are_not_pooled(tmp_path: Path) -> None:
    a, b, none, also = (
        write(tmp_path / f"{seed}.son", process(seed, 100), masses=masses)
        for seed, masses in enumerate(([28.0] * 8, [28.0] * 7 + [30.0], None, None))
    )
    with pytest.raises(FluxError, match=r"the mass \(amu\) of atom 7 30\.0, .* has 28\.0"):
        trajectory_runs([a, b])
    with pytest.raises(FluxError, match=r"has masses none, .* has some"):
        trajectory_runs([a, none])
    assert len(trajectory_runs([none, also])) == 2


def test_which_component_comes_first(tmp_path: Path) -> None:
    """J_y repeats J_x five samples later: <J_y(t + 5) J_x(t)> is element [5, y, x]."""
    noise = np.random.default_rng(9).normal(size=(10_000, 3))
    noise[5:, 1] += noise[:-5, 0]
    _, curves = reduced(write(tmp_path / "md.son", AMPLITUDE * noise))
    found = curves["autocorrelation"][5] * 300**2 * 1000 / AMPLITUDE**2
    assert found[1, 0] == pytest.approx(1, abs=0.05)
    found[1, 0] = 0
    assert np.abs(found).max() < 0.05


def test_the_tensor_turns_with_the_crystal(tmp_path: Path) -> None:
    """kappa of 1, 4 and 9 along rotated axes: R diag R^T, element by element."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    flux = process(31, 40_000) * [1, 2, 3]
    found, _ = reduced(write(tmp_path / "md.son", flux @ turn.T))
    tensor, errors = np.array(found["tensor"]), np.array(found["tensor_std"])
    expected = exact(300, 1000) * (turn @ np.diag([1, 4, 9]) @ turn.T)
    assert np.abs((tensor - expected) / errors).max() < 4
    assert errors.max() < 0.1 * expected.max()
    np.testing.assert_array_equal(tensor, tensor.T)
    assert found["kappa"] == pytest.approx(np.trace(expected) / 3, rel=0.15)


# ------------------------------------------------------------------ real dynamics


@pytest.mark.slow
def test_gauges_agree_and_formulations_differ_on_one_trajectory() -> None:
    """Solid argon, 4 x 100 ps: one kappa in two gauges, another in the virial form.

    Both fluxes are of the same trajectory, so their difference is known far better than
    either: the errors are of the differences between replicas.
    """
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.675
    system = System(positions=corners, numbers=[18] * 4, cell=[5.35] * 3).repeat(2)
    series = trajectory(system, steps=10_000)
    plain, lattice, local = (np.array([low(f, 8.0 * 4) for f in s]) for s in series)
    assert np.std(series[0] - series[1]) > 0.1 * np.std(series[1])
    gauge, form = plain / lattice - 1, local / plain - 1
    error = gauge.std(ddof=1) / 2
    assert error < 0.005
    assert abs(gauge.mean()) < 4 * error + 0.001
    error = form.std(ddof=1) / 2
    assert abs(form.mean()) > 3 * error
    kappas = [
        gkflux.kappa(flux, timestep=32.0, volume=system.volume, temperature=40.0)
        for flux in series[:2]
    ]
    assert kappas[0].kappa == pytest.approx(kappas[1].kappa, rel=0.02)
    assert kappas[0].kappa_std < 0.3 * kappas[0].kappa


def low(flux: Array, spacing: float) -> float:
    """Mean power below 0.2 THz in blocks of 10 ps: kappa, up to a factor."""
    length = round(10_000 / spacing)
    blocks = flux[: len(flux) // length * length].reshape(-1, length, 3)
    power = np.abs(np.fft.rfft(blocks, axis=1)) ** 2
    return float(power[:, 1:3].mean())


def trajectory(system: System, steps: int) -> tuple[Array, Array, Array]:
    """Flux of four replicas: plain, in the lattice gauge, plain in the virial form."""
    replicas, masses, sites = range(4), system.masses, system.positions
    v = draw_velocities(masses, 80, seed=2, stage=0, replicas=replicas)
    state = State.at_rest(np.stack([sites] * 4), v)
    streams = Langevin.streams(1, 0, replicas)
    thermostat = Langevin(
        masses, timestep=10.0, temperature=40.0, friction=0.005, streams=streams
    )
    engine = Engine(load_potential("argon"), system, state, thermostat)
    engine.begin()
    for _ in range(1500):
        engine.step()
    remove_momentum(state.velocities, masses)
    verlet, batch = VelocityVerlet(masses, timestep=8.0), engine._batch
    found: list[list[Array]] = []
    now = engine.evaluation
    for step in range(steps):
        verlet.first(state, now)
        now = batch.forces(state.positions)
        verlet.second(state, now)
        if step % 4 == 0:
            both = batch.heat_flux(state.velocities, lattice=sites)
            local = batch.heat_flux(state.velocities, formulation="local")
            assert both.lattice is not None
            found.append([both.plain, both.lattice, local.plain])
    plain, gauged, virial = np.transpose(np.array(found), (1, 2, 0, 3))
    return plain, gauged, virial
