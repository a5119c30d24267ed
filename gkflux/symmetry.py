r"""The point group of a crystal: which components of its conductivity are one number.

The conductivity is a symmetric tensor that every operation R of the point group leaves as
it is, :math:`\kappa = R \kappa R^T`. So in suitable axes it has

============================  ==============================================  ===========
crystal system                classes of equivalent components                off-diagonal
============================  ==============================================  ===========
cubic                         xx = yy = zz                                    0
tetra-, trigonal, hexagonal   two across the axis, one along it               0
orthorhombic                  three of one                                    0
monoclinic                    three of one                                    one pair
triclinic                     three of one                                    three pairs
============================  ==============================================  ===========

The fluxes along the directions of a class have the same spectrum, and independent noise:
their periodograms are averaged, and l counts them (`gkflux.tensor`). Only operations that
leave the cell of the simulation as it is are taken: one that is longer along z has an
xx = yy, zz of its own, even of a cubic crystal.

The structure is searched by spglib (Togo, Shinohara, Tanaka 2024), an extra:
``pip install stepson[symmetry]``.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.correlate import Float
from gkflux.errors import FluxError

__all__ = ["Finding", "Symmetry", "search", "symmetry_of"]

STRAIN = 2e-3
"""An operation that does not keep lengths to this is none of the cell, be the tolerance of
the positions as loose as it must."""
MAX_ATOMS = 6000
"""The search takes a time that goes with their square: ten seconds."""
NAMES = "xyz"


@dataclass(frozen=True)
class Symmetry:
    """A point group in the axes of the simulation."""

    group: str
    """International symbol of the space group."""
    number: int
    """Of the space group; 0 where only the operations are known."""
    rotations: Float
    """All operations, orthogonal, shape (g, 3, 3)."""
    axes: Float
    """Directions in which the tensor is analysed, as rows, orthonormal, shape (3, 3)."""
    classes: tuple[tuple[int, ...], ...]
    """Directions that are equivalent."""
    pairs: tuple[tuple[int, int], ...]
    """Off-diagonal elements that need not be zero."""
    tolerance: float | None = None
    """Of the positions, Å."""
    source: str = "as given"
    """Which structure was searched."""

    @property
    def aligned(self) -> bool:
        """Whether the axes are x, y, z."""
        return np.array_equal(self.axes, np.eye(3))

    def name(self, members: tuple[int, ...]) -> str:
        """Return what a class is called: ``xx = yy``, or its directions."""
        if self.aligned:
            return " = ".join(2 * NAMES[a] for a in members)
        if len(members) == 2:
            (other,) = {0, 1, 2}.difference(members)
            return f"across {_direction(self.axes[other])}"
        return "along " + " and ".join(_direction(self.axes[a]) for a in members)

    def symmetrised(self, tensor: ArrayLike) -> Float:
        """Return the mean of R kappa R^T over the group, and of its transpose."""
        kappa = np.asarray(tensor, dtype=np.float64)
        mean = np.einsum("gab,bc,gdc->ad", self.rotations, kappa, self.rotations)
        mean /= len(self.rotations)
        result: Float = (mean + mean.T) / 2
        return result

    def summary(self) -> dict[str, Any]:
        """Return it for a table: symbol, operations, where it was found."""
        return {
            "space_group": self.group,
            "space_group_number": self.number,
            "operations": len(self.rotations),
            "tolerance_A": self.tolerance,
            "structure": self.source,
            "axes": self.axes.tolist(),
        }


class Finding(NamedTuple):
    """What came of a search."""

    symmetry: Symmetry | None
    words: str
    """What was found, or why nothing was."""


def _direction(axis: Float) -> str:
    return "(" + " ".join(f"{x:.2f}" for x in axis + 0.0) + ")"


def symmetry_of(
    rotations: ArrayLike,
    *,
    group: str = "point group as given",
    number: int = 0,
    tolerance: float | None = None,
    source: str = "as given",
) -> Symmetry:
    """Find axes and classes of a point group.

    Args:
        rotations: all operations, Cartesian, orthogonal, shape (g, 3, 3).
        group: what it is called.
        number: of the space group.
        tolerance: with which it was found, Å.
        source: of which structure.

    Raises:
        FluxError: they are not orthogonal, or not closed under multiplication.
    """
    found = np.asarray(rotations, dtype=np.float64)
    _refuse_no_group(found)
    proper = found * np.linalg.det(found)[:, None, None]  # inversion keeps every tensor
    # dimension of the symmetric tensors that the group keeps: mean of the character
    trace = np.einsum("gaa->g", proper)
    squares = np.einsum("gab,gba->g", proper, proper)
    free = round(float((trace**2 + squares).mean() / 2))
    axes, classes, pairs = _ANALYSES[free](proper)
    return Symmetry(group, number, found, axes, classes, pairs, tolerance, source)


def _refuse_no_group(rotations: Float) -> None:
    if rotations.ndim != 3 or rotations.shape[1:] != (3, 3) or not len(rotations):
        raise FluxError(f"rotations of shape {rotations.shape}, expected (g, 3, 3)")
    if not np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-6):
        raise FluxError("the operations of a point group must be orthogonal matrices")
    products = np.einsum("gab,hbc->ghac", rotations, rotations).reshape(-1, 1, 9)
    known = rotations.reshape(1, -1, 9)
    distance = np.abs(products - known).max(axis=2).min(axis=1)
    if distance.max() > 1e-3:
        raise FluxError("the operations are no group: a product of two is not among them")


Analysis = tuple[Float, tuple[tuple[int, ...], ...], tuple[tuple[int, int], ...]]
_SINGLE = ((0,), (1,), (2,))


def _kept(proper: Float) -> Float:
    """Return a tensor that the group keeps, and no larger one; eigenvectors, as rows."""
    generic = np.array([[1.0, 0.23, 0.41], [0.23, np.sqrt(2), 0.17], [0.41, 0.17, np.pi]])
    mean = np.einsum("gab,bc,gdc->ad", proper, generic, proper) / len(proper)
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    result: Float = np.concatenate([values[:, None], vectors.T], axis=1)
    return result


def _cubic(proper: Float) -> Analysis:
    return np.eye(3), ((0, 1, 2),), ()


def _uniaxial(proper: Float) -> Analysis:
    kept = _kept(proper)
    alone = 0 if kept[1, 0] - kept[0, 0] > kept[2, 0] - kept[1, 0] else 2
    axes, place = _frame(kept[alone, 1:])
    across = tuple(a for a in range(3) if a != place)
    return axes, tuple(sorted((across, (place,)))), ()


def _orthorhombic(proper: Float) -> Analysis:
    vectors = _kept(proper)[:, 1:]
    order = max(permutations(range(3)), key=lambda p: np.abs(vectors[list(p)]).trace())
    chosen = vectors[list(order)]
    chosen = chosen * np.sign(chosen.diagonal())[:, None]
    return _snapped(chosen), _SINGLE, ()


def _monoclinic(proper: Float) -> Analysis:
    turn = next(p for p in proper if not np.allclose(p, np.eye(3), atol=1e-3))
    values, vectors = np.linalg.eigh((turn + turn.T) / 2)
    axes, place = _frame(vectors[:, int(np.argmax(values))])
    first, second = (a for a in range(3) if a != place)
    return axes, _SINGLE, ((first, second),)


def _triclinic(proper: Float) -> Analysis:
    return np.eye(3), _SINGLE, ((0, 1), (0, 2), (1, 2))


_ANALYSES = {1: _cubic, 2: _uniaxial, 3: _orthorhombic, 4: _monoclinic, 6: _triclinic}


def _frame(axis: Float) -> tuple[Float, int]:
    """Complete a direction to orthonormal axes close to x, y, z; and say where it is."""
    place = int(np.argmax(np.abs(axis)))
    axes = np.eye(3)
    axes[place] = axis * np.sign(axis[place])
    for a in (a for a in range(3) if a != place):
        others = axes[[b for b in range(3) if b == place or (b < a and b != place)]]
        rest = axes[a] - others.T @ (others @ axes[a])
        axes[a] = rest / np.linalg.norm(rest)
    return _snapped(axes), place


def _snapped(axes: Float) -> Float:
    """Take x, y, z themselves where they are meant."""
    return np.eye(3) if np.allclose(axes, np.eye(3), atol=1e-3) else axes


def search(
    cell: ArrayLike,
    positions: ArrayLike,
    numbers: ArrayLike,
    *,
    tolerance: float,
    source: str,
) -> Finding:
    """Search a periodic structure for its symmetry.

    Args:
        cell: of the simulation, rows, Å, shape (3, 3).
        positions: Å, shape (n, 3).
        numbers: atomic, shape (n,).
        tolerance: by which positions may be off, Å.
        source: what the structure is called in the report.

    Returns:
        the symmetry; None where there is none to be used, with the reason.
    """
    try:
        import spglib
    except ImportError:
        return Finding(None, "not looked for: spglib is missing (stepson[symmetry])")
    vectors, kinds = np.asarray(cell, np.float64), np.asarray(numbers)
    if len(kinds) > MAX_ATOMS:
        return Finding(
            None, f"not looked for: {len(kinds)} atoms, more than {MAX_ATOMS} take too long"
        )
    fractions = np.asarray(positions, np.float64) @ np.linalg.inv(vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it tells of failures
        structure: Any = (vectors, fractions % 1.0, kinds)
        found = spglib.get_symmetry_dataset(structure, symprec=tolerance)
    where = f"{source}, tolerance {tolerance:.2g} Å"
    if found is None or found.number == 1:
        return Finding(None, f"none found ({where})")
    symmetry = symmetry_of(
        _cartesian(found.rotations, vectors),
        group=str(found.international),
        number=int(found.number),
        tolerance=tolerance,
        source=source,
    )
    words = f"{symmetry.group}, {len(symmetry.rotations)} operations ({where})"
    return Finding(symmetry, words)


def _cartesian(rotations: NDArray[Any], cell: Float) -> Float:
    """Turn operations on fractions into orthogonal matrices; those that strain are left."""
    unique = np.unique(rotations.reshape(-1, 9), axis=0).reshape(-1, 3, 3)
    turned = cell.T @ unique @ np.linalg.inv(cell.T)
    metric = turned @ turned.transpose(0, 2, 1)
    kept = turned[np.abs(metric - np.eye(3)).max(axis=(1, 2)) < STRAIN]
    left, _, right = np.linalg.svd(kept)
    nearest: Float = left @ right
    return nearest


def facts(finding: Finding) -> Mapping[str, Any]:
    """Return what a result says about it."""
    known = {} if finding.symmetry is None else finding.symmetry.summary()
    return {"words": finding.words, **known}
