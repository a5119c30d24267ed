"""Does the energy drift in NVE: by the timestep, by forces in float32, or by the model?

    python benchmarks/drift.py [MODEL STRUCTURE] [--picoseconds 20] [--replicas 4]

Replicas of a SchNet are brought to 300 K (argon: 40 K) by Langevin dynamics. From these
states the engine of production (float32, tables) computes the same time in NVE with
timesteps of 4 and 2 fs, and of 4 fs with a smooth cutoff: filters times a polynomial that
falls from 1 at 0.9 r_c to 0 at r_c, with three derivatives, in place of the kink that the
forces of a cosine cutoff have. Of each replica a line is fitted (`guards.Drift`) to the
energy, and to the energy with the slow part of Verlet's own fluctuations taken out
(`Engine.steady`): slopes as temperatures, K/ns. `wander_K` is the scatter of means of
half a picosecond.

Then, along the run of 4 fs, the forces are compared with those of the network in float64,
no tables. The power of the difference, dF . v, is what the error of the forces does to
the energy: its mean is a drift. And the energy in float64 at both ends of the run tells
whether the energy that is printed drifts, or that of the atoms.
"""

import time
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from numpy.typing import NDArray

import gkflux
from gkflux.dynamics.drift import Drift
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.state import (
    State,
    draw_velocities,
    kinetic_energy,
    remove_momentum,
)
from gkflux.dynamics.verlet import VelocityVerlet
from gkflux.potentials import schnet_tables
from gkflux.system import System
from stepson.units import BOLTZMANN

Floats = NDArray[np.float64]
ARGON = Path(__file__).resolve().parents[1] / "examples" / "argon.xyz"
TIMESTEPS = (4.0, 2.0)
SAMPLES = 100
"""Steps at which forces are compared with float64."""


def smooth(model: str) -> Any:
    """Load a model whose filters end without a kink."""
    plain = schnet_tables.values_and_slopes

    def tapered(network: Any, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w, slope = plain(network, r)
        width = 0.1 * network.cutoff
        x = ((r - network.cutoff) / width + 1.0).clamp(0.0, 1.0)[:, None]
        envelope = 1 - x**4 * (35 - 84 * x + 70 * x**2 - 20 * x**3)
        fall = -140 * x**3 * (1 - x) ** 3 / width
        return w * envelope, slope * envelope + w * fall

    schnet_tables.values_and_slopes = tapered
    try:
        return gkflux.load_potential(model)
    finally:
        schnet_tables.values_and_slopes = plain


def thermal(potential: Any, system: System, kelvin: float, replicas: int) -> State:
    """States at a temperature, K, without total momentum."""
    masses, everyone = system.masses, range(replicas)
    v = draw_velocities(masses, 2 * kelvin, seed=1, stage=0, replicas=everyone)
    state = State.at_rest(np.stack([system.positions] * replicas), v)
    thermostat = Langevin(
        masses,
        timestep=4.0,
        temperature=kelvin,
        friction=0.01,
        streams=Langevin.streams(1, 0, everyone),
    )
    md = Engine(potential, system, state, thermostat)
    md.begin()
    for _ in range(2500):
        md.step()
    remove_momentum(state.velocities, masses)
    return state


def run(
    potential: Any, system: System, start: State, timestep: float, duration: float
) -> tuple[dict[str, Any], list[tuple[Floats, Floats]]]:
    """What energies do, and some states of the first replica on the way."""
    state = State.at_rest(start.positions, start.velocities)
    md = Engine(potential, system, state, VelocityVerlet(system.masses, timestep=timestep))
    steps = round(duration / timestep)
    every, began = max(1, steps // SAMPLES), time.perf_counter()
    kept, energies = [], []
    md.begin()
    for step in range(1, steps + 1):
        md.step()
        energies.append((md.conserved(), md.steady()))
        if step % every == 0:
            kept.append((state.positions[0].copy(), state.velocities[0].copy()))
    found: dict[str, Any] = {"seconds": time.perf_counter() - began}
    for k, name in enumerate(("energy", "steady")):
        series = np.array([pair[k] for pair in energies])
        found[name] = slopes(series, system.n_atoms, timestep)
    return found, kept


def slopes(series: Floats, n_atoms: int, timestep: float) -> dict[str, Any]:
    """Fits to energies ``(steps, replicas)``, eV, as temperatures."""
    drift = Drift(
        replicas=series.shape[1],
        n_atoms=n_atoms,
        timestep=timestep,
        steps=len(series),
        target=300.0,
    )
    for step, values in enumerate(series):
        drift.add(step, values)
    slope, error = drift.slope()
    block, unit = round(500 / timestep), 3 * n_atoms * BOLTZMANN
    means = series[: len(series) // block * block].reshape(-1, block, series.shape[1])
    return {
        "slopes_K_per_ns": slope.tolist(),
        "errors": error.tolist(),
        "mean": float(slope.mean()),
        "scatter": float(slope.std(ddof=1)),
        "wander_K": float(means.mean(axis=1).std(axis=0).mean() / unit),
        "rms_K": float(series.std(axis=0).mean() / unit),
    }


def compare(
    fast: Any, exact: Any, system: System, states: list[tuple[Floats, Floats]]
) -> dict[str, float]:
    """What the error of the forces does to the energy."""
    a, b = fast.batch([system]), exact.batch([system])
    power, square, energy = [], [], []
    for x, v in states:
        one, two = a.forces(x[None]), b.forces(x[None])
        error = one.forces - two.forces
        power.append(float((error * v).sum()))
        square.append(float((error**2).mean()))
        kinetic = float(kinetic_energy(v[None], system.masses)[0])
        energy.append((one.energy[0] + kinetic, two.energy[0] + kinetic))
    unit = 3 * system.n_atoms * BOLTZMANN
    ends = np.array(energy)
    count = len(ends) // 10
    change = (ends[-count:].mean(axis=0) - ends[:count].mean(axis=0)) / unit
    return {
        "rms_force_error_eV_A": float(np.sqrt(np.mean(square))),
        "drift_by_force_error_K_per_ns": float(np.mean(power)) * 1e6 / unit,
        "its_error": float(np.std(power, ddof=1) / np.sqrt(len(power))) * 1e6 / unit,
        "change_of_energy_K": float(change[0]),
        "change_in_float64_K": float(change[1]),
        "samples": len(states),
    }


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("model", nargs="?", default="argon")
    parser.add_argument("structure", nargs="?", help="default: argon, 108 atoms")
    parser.add_argument("--temperature", type=float, help="K; 300, argon 40")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--replicas", type=int, default=4)
    arguments = parser.parse_args()
    system, kelvin = System.read(arguments.structure or ARGON), arguments.temperature
    if arguments.structure is None:
        system = system.repeat(3)
    kelvin = kelvin or (40.0 if arguments.structure is None else 300.0)
    fast = gkflux.load_potential(arguments.model)
    exact = gkflux.load_potential(arguments.model, dtype="float64")
    start = thermal(fast, system, kelvin, arguments.replicas)
    duration, found = 1e3 * arguments.picoseconds, {}
    kept: list[tuple[Floats, Floats]] = []
    for timestep in TIMESTEPS:
        found[f"{timestep:g} fs"], states = run(fast, system, start, timestep, duration)
        kept = kept or states
        print(f"{timestep:g} fs", found[f"{timestep:g} fs"], flush=True)
    name = "4 fs, smooth cutoff"
    found[name], _ = run(smooth(arguments.model), system, start, 4.0, duration)
    print(name, found[name], flush=True)
    found["forces"] = compare(fast, exact, system, kept)
    print(found["forces"], flush=True)
    about = {
        **measuring.machine("numpy", "numba", "torch"),
        "model": Path(arguments.model).name,
        "atoms": system.n_atoms,
        "temperature_K": kelvin,
        "picoseconds": arguments.picoseconds,
        "replicas": arguments.replicas,
    }
    measuring.report({**about, "results": measuring.rounded(found)}, arguments.json)


if __name__ == "__main__":
    main()
