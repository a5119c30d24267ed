"""An ASE calculator, for whoever wants ASE's own dynamics or optimisers.

Dynamics of this package record the heat flux and restart bit for bit; here ASE decides, and
only energies, forces and stress are computed. The neighbour list is kept, with its skin, as
long as species, cell and periodic directions stay the same.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from gkflux.potentials.base import Batch, Potential
from gkflux.system import System

__all__ = ["Calculator"]


class Calculator(AseCalculator):
    """Energies in eV, forces in eV/Å, stress in eV/Å³, tension positive.

    Args:
        potential: any `Potential`, as `gkflux.load_potential` returns it.
    """

    implemented_properties = [  # noqa: RUF012 ASE declares it of the instance
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(self, potential: Potential) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.potential = potential
        self._system: System | None = None
        self._batch: Batch | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute everything at once: it costs no more than the forces."""
        source: Any = self.atoms if atoms is None else atoms
        self.atoms = source.copy()
        system, batch = self._engine(source)
        e = batch.forces(system.positions[None])
        self.results = {
            "energy": float(e.energy[0]),
            "free_energy": float(e.energy[0]),
            "energies": e.energies[0],
            "forces": e.forces[0],
        }
        if np.isfinite(system.volume):
            stress = e.virial[0] / system.volume
            stress = (stress + stress.T) / 2
            # order of Voigt: xx, yy, zz, yz, xz, xy
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]

    def _engine(self, atoms: Any) -> tuple[System, Batch]:
        """The atoms, and the engine of the last call, if it fits."""
        if self._batch is None or self._system is None or not _alike(self._system, atoms):
            self._system = System.from_ase(atoms)
            self._batch = self.potential.batch([self._system])
            return self._system, self._batch
        return self._system.moved(atoms.get_positions()), self._batch


def _alike(system: System, atoms: Any) -> bool:
    cell = np.zeros((3, 3)) if system.cell is None else system.cell
    return (
        np.array_equal(system.numbers, atoms.numbers)
        and np.array_equal(system.pbc, atoms.pbc)
        and np.array_equal(cell, atoms.cell.array)
    )
