"""Any potential, by automatic differentiation: slow, obvious, and right.

`AutogradBatch` runs dynamics, and `result` is what a `Potential` does when it is called.
Both serve the potentials without an engine of their own (`Differentiated`), and are the
oracle for those that have one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.neighbors import Edges, edge_vectors, neighbor_list
from gkflux.potentials.base import (
    Batch,
    Books,
    Evaluation,
    FluxResult,
    Potential,
    Result,
    Statistics,
    check_elements,
)
from gkflux.potentials.flux_parts import (
    books_of,
    check_formulation,
    check_motion,
    check_shape,
)
from gkflux.potentials.skin import cells_of
from gkflux.system import System

__all__ = ["PROPERTIES", "AutogradBatch", "Differentiated", "derivatives", "result"]

Floats = NDArray[np.float64]
PROPERTIES = ("energy", "energies", "forces", "stress", "heat_flux")


def derivatives(
    potential: Potential, numbers: NDArray[np.int64], d: Floats, edges: Edges
) -> tuple[Floats, Floats]:
    """Return U_i, shape ``(n,)``, eV, and G = dU/dd, shape ``(E, 3)``, eV/Å."""
    dtype: torch.dtype = getattr(potential, "dtype", torch.float64)
    device: torch.device = getattr(potential, "device", torch.device("cpu"))
    vectors = torch.tensor(d, dtype=dtype, device=device, requires_grad=True)
    centre, other, species = (
        torch.tensor(a, device=device) for a in (edges.centre, edges.other, numbers)
    )
    u = potential.energies(species, vectors, centre, other, len(numbers))
    if len(edges) == 0 or not u.requires_grad:
        return u.detach().double().cpu().numpy(), np.zeros_like(d)
    (g,) = torch.autograd.grad(u.sum(), vectors)
    return u.detach().double().cpu().numpy(), g.double().cpu().numpy()


def _evaluate(
    potential: Potential, numbers: NDArray[np.int64], d: Floats, edges: Edges
) -> tuple[Floats, Floats, Floats]:
    """Return U_i, forces and virial; sums in float64, in the order of the list."""
    u, g = derivatives(potential, numbers, d, edges)
    forces = np.zeros((len(numbers), 3))
    np.add.at(forces, edges.centre, g)
    np.subtract.at(forces, edges.other, g)
    virial = np.zeros((len(numbers), 3, 3))
    np.add.at(virial, edges.centre, d[:, :, None] * g[:, None, :])
    return u, forces, np.add.accumulate(virial)[-1] if len(numbers) else virial.sum(0)


class AutogradBatch:
    """R replicas, one after the other, each with a fresh neighbour list at every call."""

    def __init__(self, potential: Potential, systems: Sequence[System]) -> None:
        check_replicas(systems)
        for system in systems:
            check_elements(potential.elements, system.numbers)
        self.potential = potential
        self.systems = list(systems)
        self.statistics = Statistics()
        self._shape = (len(systems), systems[0].n_atoms, 3)
        self._positions: Floats | None = None
        self._cells = cells_of(systems)
        self._asked: tuple[Floats, str] | None = None

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        """Evaluate every replica; see `Batch.forces`."""
        check_shape("positions", positions, self._shape)
        self._positions = np.array(positions, dtype=np.float64)
        self._cells = cells_of(self.systems, cells)
        self._energies, forces, virial = map(
            np.stack, zip(*(self._one(r) for r in range(len(self.systems))), strict=True)
        )
        self.statistics.calls += 1
        energy = np.add.accumulate(self._energies, axis=1)[:, -1]
        return Evaluation(energy, self._energies, forces, virial)

    def _one(self, r: int) -> tuple[Floats, Floats, Floats]:
        assert self._positions is not None
        system, points, cell = self.systems[r], self._positions[r], self._cells[r]
        edges = neighbor_list(points, cell, system.pbc, self.potential.cutoff)
        self.statistics.rebuilds += 1
        self.statistics.edges = len(edges)
        d = edge_vectors(points, cell, edges)
        return _evaluate(self.potential, system.numbers, d, edges)

    def heat_flux(
        self,
        velocities: Floats,
        *,
        formulation: str = "semilocal",
        lattice: Floats | None = None,
        convective: bool = True,
    ) -> FluxResult:
        """See `Batch.heat_flux`; one generic evaluation a replica."""
        from gkflux.flux import fluxes

        if self._positions is None:
            raise FluxError("heat_flux() uses the features of forces(): call that first")
        check_formulation(formulation)
        check_motion(velocities, lattice, self._shape)
        self._asked = np.array(velocities, dtype=np.float64), formulation
        found = [
            fluxes(
                self.potential,
                system.moved(self._positions[r], self._cells[r]),
                velocities[r],
                formulation=formulation,
                lattice=lattice,
                convective=convective,
            )
            for r, system in enumerate(self.systems)
        ]
        plain, sites = (np.array(column) for column in zip(*found, strict=True))
        return FluxResult(plain, None if lattice is None else sites)

    def books(self) -> Books:
        """See `KeepsBooks.books`; computed again, in the same way."""
        from gkflux.flux import edge_powers, local_power

        if self._positions is None or self._asked is None:
            raise FluxError("books() are those of a heat_flux(): call that first")
        velocities, formulation = self._asked
        found = []
        for r, system in enumerate(self.systems):
            moved = system.moved(self._positions[r], self._cells[r])
            powers = edge_powers(self.potential, moved, velocities[r])
            power = local_power(powers) if formulation == "local" else powers.power
            edges = powers.graph.edges
            found.append(books_of(power, edges.centre, edges.other, system.n_atoms))
        return Books(*(np.stack(column) for column in zip(*found, strict=True)))


class Differentiated:
    """What a potential has that is no more than its `Potential.energies`."""

    def __call__(
        self: Potential,
        system: System,
        velocities: Floats | None = None,
        compute: Sequence[str] = ("energy", "forces"),
    ) -> Result:
        """See `Potential.__call__`."""
        return result(self.batch([system]), system, velocities, compute)

    def batch(
        self: Potential, systems: Sequence[System], *, skin: float | None = None
    ) -> Batch:
        """See `Potential.batch`; without a skin, the list is built at every step."""
        return AutogradBatch(self, systems)

    def reference_energies(self, numbers: NDArray[np.int64]) -> Floats:
        """u_s = 0: an atom alone has no energy."""
        return np.zeros(len(numbers))


def check_replicas(systems: Sequence[System]) -> None:
    """Refuse systems that are not replicas of each other.

    Raises:
        FluxError: none given, or other species, or other periodic directions.
    """
    if not systems:
        raise FluxError("a batch needs at least one system")
    first = systems[0]
    for r, system in enumerate(systems):
        same = np.array_equal(system.numbers, first.numbers) and np.array_equal(
            system.pbc, first.pbc
        )
        if not same:
            raise FluxError(f"replica {r} has other atoms than replica 0")


def result(
    batch: Batch, system: System, velocities: Floats | None, compute: Sequence[str]
) -> Result:
    """Evaluate a batch of one, and return what was asked for.

    Raises:
        FluxError: an unknown property, stress of a cluster, flux without velocities.
    """
    unknown = set(compute) - set(PROPERTIES)
    if unknown:
        raise FluxError(
            f"cannot compute {sorted(unknown)}; known are {', '.join(PROPERTIES)}"
        )
    if "stress" in compute and np.isnan(system.volume):
        raise FluxError(
            "without three lattice vectors there is no volume, and so no stress"
        )
    v = system.velocities if velocities is None else velocities
    if "heat_flux" in compute and v is None:
        raise FluxError("the heat flux needs velocities: give velocities=, in Å/fs")
    e = batch.forces(system.positions[None])
    flux = None
    if "heat_flux" in compute and v is not None:
        flux = batch.heat_flux(np.asarray(v, dtype=np.float64)[None]).plain[0]
    return Result(
        energy=float(e.energy[0]) if "energy" in compute else None,
        energies=e.energies[0] if "energies" in compute else None,
        forces=e.forces[0] if "forces" in compute else None,
        stress=e.virial[0] / system.volume if "stress" in compute else None,
        heat_flux=flux,
    )
