r"""The gauge of the reference lattice, for solids.

.. math:: J_0 = \frac{d}{dt} \sum_i R_i^0 E_i = - \sum_e d_e^0 P_e

with d_e^0 the vectors of the edges between equilibrium positions R^0. It differs from
the plain flux by the time derivative of a bounded quantity, so the conductivity is the
same, with much less noise, and there is no convective part (Ercole et al., J. Low Temp.
Phys. 185, 79 (2016)).

R^0 is fitted once, to the structure that a run starts from: every R_i^0 is moved by
lattice vectors next to its atom. Positions are unwrapped from there on, so the fit
holds for the rest of the run. What is tested is

.. math:: u_i = r_i - R_i^0 - \langle r_j - R_j^0 \rangle_j

because noise moves a crystal as a whole, and a common translation c of the lattice
changes J_0 only by c dE/dt, which is zero.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.errors import FluxError
from gkflux.neighbors import edge_vectors, neighbor_list
from gkflux.system import System

__all__ = ["displacements", "fit_lattice", "hop", "hop_limits"]

Array = NDArray[np.float64]

SAME_CELL = 1e-3
"""Å by which the lattice vectors of the structure and of its lattice may differ."""


def displacements(positions: ArrayLike, lattice: ArrayLike) -> Array:
    """u_i, shape ``(n, 3)``, Å: from the lattice, less the mean over all atoms."""
    u = np.asarray(positions, dtype=np.float64) - np.asarray(lattice, dtype=np.float64)
    return np.asarray(u - u.mean(axis=0))


def hop_limits(system: System, lattice: ArrayLike) -> Array:
    """Half the distance to the nearest neighbour on the lattice, shape ``(n,)``, Å.

    An atom alone in open space has no limit: infinity.
    """
    points = np.asarray(lattice, dtype=np.float64)
    cutoff, alone = 4.0, 0.0
    if system.n_atoms > 1 or system.pbc.any():
        alone = _longest(system, points)
    while True:
        edges = neighbor_list(points, system.cell, system.pbc, cutoff)
        if np.diff(edges.row).all() or cutoff > alone:
            break
        cutoff *= 1.5
    nearest = np.full(len(points), np.inf)
    lengths = np.linalg.norm(edge_vectors(points, system.cell, edges), axis=1)
    np.minimum.at(nearest, edges.centre, lengths)
    return np.asarray(nearest / 2)


def _longest(system: System, points: Array) -> float:
    """A length within which every atom has a neighbour, if it has one at all."""
    cell = np.zeros((3, 3)) if system.cell is None else system.cell
    return float(np.linalg.norm(np.ptp(points, axis=0)) + np.linalg.norm(cell) + 1.0)


def hop(positions: ArrayLike, lattice: ArrayLike, limits: ArrayLike) -> int | None:
    """Index of the atom that has left its site by most, None where all are at home.

    Args:
        positions: shape ``(n, 3)``, Å, unwrapped.
        lattice: shape ``(n, 3)``, Å, as fitted at the start.
        limits: shape ``(n,)``, Å, of `hop_limits`.
    """
    distance = np.linalg.norm(displacements(positions, lattice), axis=1)
    excess = distance / np.asarray(limits, dtype=np.float64)
    worst = int(np.argmax(excess))
    return worst if excess[worst] > 1 else None


def fit_lattice(system: System, lattice: System | ArrayLike) -> Array:
    """Move every lattice site by lattice vectors next to its atom.

    Args:
        system: the structure that the run starts from.
        lattice: the equilibrium structure in the same cell, atoms in the same order; a
            `System`, whose species and cell are compared too, or positions ``(n, 3)``, Å.

    Returns:
        R^0, shape ``(n, 3)``, Å.

    Raises:
        FluxError: another cell, other atoms or another order of them, or an atom further
            from its site than half the distance between neighbours.
    """
    points = _checked(system, lattice)
    sites = points + _moves(system, system.positions - points)
    limits = hop_limits(system, sites)
    atom = hop(system.positions, sites, limits)
    if atom is not None:
        distance = np.linalg.norm(displacements(system.positions, sites)[atom])
        raise FluxError(
            f"atom {atom} is {distance:.2f} Å from its site on the reference lattice, more "
            f"than half the distance to its neighbour ({limits[atom]:.2f} Å): give the "
            "lattice of this structure, atoms in the same order, or use gauge='none'"
        )
    return sites


def _checked(system: System, lattice: System | ArrayLike) -> Array:
    if not isinstance(lattice, System):
        points = np.asarray(lattice, dtype=np.float64)
        if points.shape != system.positions.shape:
            raise FluxError(
                f"the reference lattice has shape {points.shape}, the structure "
                f"{system.positions.shape}: give one site an atom"
            )
        return points
    _check_species(system, lattice)
    if not _same_cell(system, lattice):
        raise FluxError(
            "the reference lattice has another cell than the structure: give both in the "
            "same supercell, with the same lattice vectors"
        )
    return np.asarray(lattice.positions)


def _check_species(system: System, lattice: System) -> None:
    if lattice.n_atoms != system.n_atoms:
        raise FluxError(
            f"the reference lattice has {lattice.n_atoms} atoms, the structure "
            f"{system.n_atoms}: give both in the same supercell"
        )
    wrong = np.flatnonzero(lattice.numbers != system.numbers)
    if len(wrong):
        raise FluxError(
            f"atom {wrong[0]} is species {system.numbers[wrong[0]]} in the structure and "
            f"{lattice.numbers[wrong[0]]} in the reference lattice: order the atoms alike"
        )


def _same_cell(system: System, lattice: System) -> bool:
    if system.cell is None or lattice.cell is None:
        return system.cell is lattice.cell
    return bool(np.abs(system.cell - lattice.cell).max() < SAME_CELL)


def _moves(system: System, u: Array) -> Array:
    """Lattice vectors ``(n, 3)`` that bring u nearest to its common part, Å.

    The common part is a mean on the torus: the angle of the mean of exp(2 pi i s), s
    fractional.
    """
    if system.cell is None or not system.pbc.any():
        return np.zeros_like(u)
    cell = _filled_cell(system)
    fractional = u @ np.linalg.inv(cell)
    common = np.angle(np.exp(2j * np.pi * fractional).mean(axis=0)) / (2 * np.pi)
    common[~system.pbc] = 0.0
    shift = np.rint(fractional - common) * system.pbc
    # Rounding finds the nearest image unless the cell is oblique: try the 26 around it.
    around = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    tried = shift[:, None] + around * system.pbc
    length = np.linalg.norm((fractional - common)[:, None] @ cell - tried @ cell, axis=2)
    best = np.argmin(length, axis=1)
    return np.asarray(tried[np.arange(len(u)), best] @ cell)


def _filled_cell(system: System) -> Array:
    """The cell, with unit vectors across it where a direction is open and has none."""
    assert system.cell is not None
    cell = np.array(system.cell)
    open_ = ~cell.any(axis=1)
    if open_.any():
        _, _, axes = np.linalg.svd(cell[~open_])
        cell[open_] = axes[(~open_).sum() :]
    return cell
