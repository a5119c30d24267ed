"""Independent oscillators as a potential: everything about them is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gkflux.dynamics.state import Floats
from gkflux.potentials.base import Evaluation, FluxResult, Statistics
from gkflux.system import System

SIDE = 10.0
SITES = np.array([[0.0, 0, 0], [2, 0.1, 0], [0.2, 2, 0.3], [2, 2, 2]])


class HarmonicBatch:
    """Atoms on springs of different strength, plus a weak quartic term if asked for."""

    def __init__(self, springs: Floats, sites: Floats, quartic: float) -> None:
        self.statistics = Statistics()
        self.springs, self.sites, self._quartic = springs, sites, quartic
        self._energies = np.empty(0)

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        """Sites are fixed fractions of a cell that is a cube, 10 Å where none is given."""
        side = 1.0 if cells is None else cells[:, 0, 0, None, None] / SIDE
        d = positions - self.sites * side
        square = (d * d).sum(axis=2)
        spring = self.springs
        self._energies = 0.5 * spring * square + 0.25 * self._quartic * square**2
        forces = -(self.springs[:, None] + self._quartic * square[:, :, None]) * d
        virial = -np.einsum("kij,kil->kjl", d, forces)
        energy = np.array([np.add.accumulate(row)[-1] for row in self._energies])
        return Evaluation(energy, self._energies, forces, virial)

    def heat_flux(
        self,
        velocities: Floats,
        *,
        formulation: str = "semilocal",
        lattice: Floats | None = None,
        convective: bool = True,
    ) -> FluxResult:
        return FluxResult((self._energies[:, :, None] * velocities).sum(axis=1), None)


class Harmonic:
    """A `Potential` as far as the dynamics needs one."""

    cutoff = 4.0
    layers = 1
    elements = None
    provenance: dict[str, Any] = {"file": "harmonic", "sha256": "0", "kind": "harmonic"}  # noqa: RUF012

    def __init__(self, springs: Sequence[float], quartic: float = 0.0) -> None:
        self.springs, self.quartic = np.array(springs, dtype=float), quartic

    def batch(
        self, systems: Sequence[System], *, skin: float | None = None
    ) -> HarmonicBatch:
        n = systems[0].n_atoms
        sites = np.resize(SITES, (n, 3)).astype(float)
        return HarmonicBatch(np.resize(self.springs, n), sites, self.quartic)


def oscillators(n: int = 4) -> System:
    """Atoms at rest at the sites of `Harmonic`, in a box of 10 Å."""
    return System(
        positions=np.resize(SITES, (n, 3)),
        numbers=[18] * n,
        masses=[40.0] * n,
        cell=np.eye(3) * SIDE,
        pbc=True,
    )
