"""Potentials under pressure of which the distribution of the volume is known."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gkflux.dynamics.state import Floats, volumes
from gkflux.potentials.base import Evaluation, FluxResult, Statistics
from gkflux.system import System

SIDE = 10.0


class GasBatch:
    """Energy f(V) and springs to sites that are fixed fractions of the cell."""

    def __init__(self, gas: "Gas", systems: Sequence[System]) -> None:
        self.statistics = Statistics()
        self._gas = gas
        self._cells = np.stack([np.array(system.cell) for system in systems])
        sites = np.stack([system.positions for system in systems])
        self._sites = sites / np.cbrt(volumes(self._cells))[:, None, None]

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        cells, gas = self._cells if cells is None else cells, self._gas
        volume = volumes(cells)
        side = np.cbrt(volume)
        bulk, slope = gas.bulk(volume)
        virial = (volume * slope)[:, None, None] * np.eye(3)
        energies = np.zeros(positions.shape[:2])
        forces = np.zeros_like(positions)
        if gas.spring:
            u = positions - self._sites * side[:, None, None]
            energies += 0.5 * gas.spring * (u * u).sum(axis=2)
            forces -= gas.spring * u
            virial += gas.spring * u.transpose(0, 2, 1) @ u
        energies[:, 0] += bulk
        return Evaluation(energies.sum(axis=1), energies, forces, virial)

    def heat_flux(self, velocities: Floats, **options: Any) -> FluxResult:
        raise AssertionError("no test under pressure asks for a heat flux")


class Gas:
    """A `Potential` as far as the dynamics needs one.

    Args:
        spring: eV/Å²; 0: an ideal gas.
        bulk: f and f' of an energy f(V), eV and eV/Å³.
    """

    cutoff = 20.0
    layers = 1
    elements = None
    provenance: dict[str, Any] = {"file": "gas", "sha256": "0", "kind": "gas"}  # noqa: RUF012

    def __init__(
        self,
        spring: float = 0.0,
        bulk: Callable[[Floats], tuple[Floats, Floats]] = lambda v: (0 * v, 0 * v),
    ) -> None:
        self.spring, self.bulk = spring, bulk

    def batch(self, systems: Sequence[System], *, skin: float | None = None) -> GasBatch:
        return GasBatch(self, systems)


def parabola(centre: float, modulus: float) -> Callable[[Floats], tuple[Floats, Floats]]:
    """f(V) = K (V - V_0)² / 2 V_0, K in eV/Å³."""

    def bulk(volume: Floats) -> tuple[Floats, Floats]:
        strain = (volume - centre) / centre
        return 0.5 * modulus * centre * strain**2, modulus * strain

    return bulk


def gas(n: int, side: float = SIDE) -> System:
    """Atoms of argon in a cube."""
    places = np.random.default_rng(0).uniform(0, SIDE, (n, 3))
    return System(
        positions=places * side / SIDE,
        numbers=[18] * n,
        masses=np.resize([40.0, 20.0], n),
        cell=np.eye(3) * side,
        pbc=True,
    )
