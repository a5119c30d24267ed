"""The directed full neighbour list: every image of every atom within a cutoff is an edge.

Edge ``e = (c <- o, S)``: centre ``c``, other ``o``, lattice shift ``S``, vector
``d_e = (r_o - r_c) + S @ cell``. The list is sorted by (centre, other, shift), which is a
property of the structure and not of the algorithm that found the edges: sums in list order
are reproducible. Positions need not be wrapped; a cell may be smaller than the cutoff, and
an atom may be its own neighbour (through an image).

`vesin <https://github.com/luthaf/vesin>`_ finds the pairs, this module puts them in order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.errors import FluxError

__all__ = ["Edges", "check_space", "edge_vectors", "neighbor_list", "refuse_crowd"]

Floats = NDArray[np.float64]

CROWD = 1e5
"""Neighbours an atom above which a list is refused; a solid has 50 within 5 Å."""


class Edges(NamedTuple):
    """A sorted, directed, full list of E edges between n atoms.

    ``row``: shape ``(n + 1,)``; the edges of centre c are ``row[c]:row[c + 1]``. int64.
    ``centre``, ``other``: shape ``(E,)``, int64.
    ``shift``: shape ``(E, 3)``, int32, in lattice vectors.
    """

    row: NDArray[np.int64]
    centre: NDArray[np.int64]
    other: NDArray[np.int64]
    shift: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.centre)

    def vectors(self, cell: Floats | None) -> Floats:
        """Return S @ cell, shape ``(E, 3)``, Å.

        Not a matrix product: the bits of a row must not depend on its place in the list.
        """
        if cell is None:
            return np.zeros((len(self), 3))
        a, b, c = (self.shift[:, k, None] * cell[k] for k in range(3))
        return np.asarray((a + b) + c, dtype=np.float64)


def neighbor_list(
    positions: ArrayLike, cell: ArrayLike | None, pbc: ArrayLike, cutoff: float
) -> Edges:
    """Find all edges shorter than the cutoff.

    Args:
        positions: shape ``(n, 3)``, Å.
        cell: shape ``(3, 3)``, rows, Å; None for a cluster.
        pbc: one bool, or three.
        cutoff: Å.

    Raises:
        FluxError: positions or a cell that are not finite, a cutoff that is no length,
            positions too far apart to be one system, more than `CROWD` neighbours an atom.
    """
    points = np.ascontiguousarray(positions, dtype=np.float64)
    periodic = np.array(np.broadcast_to(np.asarray(pbc, dtype=bool), (3,)))
    if not np.isfinite(points).all():
        raise FluxError(
            "positions are not finite; the run has exploded, or the file is wrong"
        )
    box = _box(cell, periodic)
    check_space(box, float(cutoff))
    refuse_crowd(len(points), box, periodic, float(cutoff))
    pairs, shift = _find(points, box, periodic, float(cutoff))
    return _sorted(len(points), pairs, shift)


def edge_vectors(positions: Floats, cell: Floats | None, edges: Edges) -> Floats:
    """Return d, shape ``(E, 3)``, Å. The reverse edge has exactly ``-d``, bit for bit."""
    return (positions[edges.other] - positions[edges.centre]) + edges.vectors(cell)


def check_space(box: Floats, cutoff: float) -> None:
    """Refuse lattice vectors and a cutoff that mean nothing."""
    if not np.isfinite(box).all():
        raise FluxError("the cell holds values that are not finite")
    if not 0.0 < cutoff < np.inf:
        raise FluxError(f"cutoff {cutoff} is not a length in Å")


def refuse_crowd(n: int, box: Floats, periodic: NDArray[np.bool_], cutoff: float) -> None:
    """Refuse a cell in another unit before its images fill the memory."""
    if not (n and periodic.all()):
        return
    volume = abs(float(np.linalg.det(box)))
    mean = n / max(volume, 1e-300) * 4.2 * cutoff**3
    if mean > CROWD:
        raise FluxError(
            f"{n} atoms in {volume:.3g} Å³ have {mean:.2g} neighbours each within "
            f"{cutoff:g} Å; check that cell and cutoff are in Å"
        )


def _box(cell: ArrayLike | None, periodic: NDArray[np.bool_]) -> Floats:
    """Lattice vectors of the periodic directions; the others have no meaning here."""
    if cell is None:
        return np.zeros((3, 3))
    box = np.array(cell, dtype=np.float64)
    box[~periodic] = 0.0
    return box


def _find(
    points: Floats, box: Floats, periodic: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from vesin import NeighborList

    finder = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    pairs, shift = finder.compute(points, box, periodic.tolist(), quantities="PS")
    return pairs.astype(np.int64), shift.astype(np.int64)


def _sorted(n: int, pairs: NDArray[np.int64], shift: NDArray[np.int64]) -> Edges:
    """Sort one integer that holds (centre, other, shift), and read all back from it."""
    low = shift.min(axis=0, initial=0)
    span = shift.max(axis=0, initial=0) - low + 1
    images = int(np.prod(span))
    if n * n * images >= 2**63:
        raise FluxError("atoms are too many lattice vectors apart; has an atom been lost?")
    image = np.ravel_multi_index(tuple((shift - low).T), tuple(span))
    key = np.sort((pairs[:, 0] * n + pairs[:, 1]) * images + image)
    pair, image = np.divmod(key, images)
    centre, other = np.divmod(pair, max(n, 1))
    row = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(centre, minlength=n), out=row[1:])
    shifts = np.stack(np.unravel_index(image, tuple(span)), axis=1) + low
    return Edges(row, centre, other, shifts.astype(np.int32))
