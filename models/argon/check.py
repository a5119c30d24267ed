"""What the card says of a finished model, beyond its errors: dynamics, and the heat flux.

The liquid near the triple point is run at constant energy with the model, from a
configuration of the test set; along the way the flux is computed in the exact and in
the virial form.
"""

from dataclasses import dataclass

import numpy as np

from gkflux.flux import edge_powers, local_power
from gkflux.potentials.base import Potential
from gkflux.system import System
from models.argon.teacher import ARGON, MASS, Array
from stepson.units import BOLTZMANN, KINETIC

__all__ = ["Dynamics", "dynamics"]

FLUX_EVERY = 200


@dataclass(frozen=True)
class Dynamics:
    """A run at constant energy."""

    timestep: float
    """fs."""
    steps: int
    temperature: float
    """Mean, K."""
    drift: float
    """Slope of the total energy, meV/atom in one ns."""
    noise: float
    """Standard deviation of the total energy about its slope, meV/atom."""
    missing: float
    """rms of J_semilocal - J_local over rms of J_semilocal, both without convection."""
    imbalance: float
    """Largest error of the power balance of an atom, over the rms power of an atom."""


def dynamics(
    potential: Potential,
    positions: Array,
    box: float,
    *,
    temperature: float,
    steps: int,
    timestep: float,
    seed: int,
) -> Dynamics:
    """Run velocity Verlet from velocities drawn at a temperature (K), momentum removed."""
    n = len(positions)
    system = System(
        positions=positions, numbers=[ARGON] * n, cell=[box] * 3, masses=[MASS] * n
    )
    v = np.random.default_rng(seed).normal(size=(n, 3))
    v *= np.sqrt(BOLTZMANN * temperature / (KINETIC * MASS))
    v -= v.mean(axis=0)
    batch, x = potential.batch([system]), np.array(positions)
    now = batch.forces(x[None])
    kick = 0.5 * timestep / (KINETIC * MASS)
    total, kinetic = np.empty(steps), np.empty(steps)
    fluxes = []
    for step in range(steps):
        v += kick * now.forces[0]
        x += timestep * v
        now = batch.forces(x[None])
        v += kick * now.forces[0]
        kinetic[step] = 0.5 * KINETIC * MASS * np.sum(v * v)
        total[step] = kinetic[step] + now.energy[0]
        if step % FLUX_EVERY == 0:
            fluxes.append(_fluxes(potential, system.moved(x), v))
    exact, local, imbalance = (np.array(column) for column in zip(*fluxes, strict=True))
    time = timestep * 1e-6 * np.arange(steps)
    slope, start = np.polyfit(time, total, 1)
    return Dynamics(
        timestep=timestep,
        steps=steps,
        temperature=float(2 * kinetic.mean() / (3 * (n - 1) * BOLTZMANN)),
        drift=float(1e3 * slope / n),
        noise=float(1e3 * np.std(total - start - slope * time) / n),
        missing=float(np.sqrt(np.mean((exact - local) ** 2) / np.mean(exact**2))),
        imbalance=float(imbalance.max()),
    )


def _fluxes(potential: Potential, system: System, v: Array) -> tuple[Array, Array, float]:
    powers = edge_powers(potential, system, v)
    scale = np.sqrt(np.mean(powers.energy_rates**2))
    worst = np.abs(powers.imbalance()).max() / scale
    return powers.flux(), powers.flux(power=local_power(powers)), float(worst)
