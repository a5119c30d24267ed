"""Verlet lists of R replicas: built with a skin, used until an atom may have crossed it.

A list built for r_c + skin holds every pair closer than r_c as long as the two largest
displacements since then, of unwrapped positions, do not add up to more than the skin. Edges
are in canonical order and those beyond the cutoff add nothing, so no result depends on when
a list was built or on the skin: it only costs or saves time, and may be tuned by the clock.

Where the cell has changed since, by F = h_0^-1 h: a pair that was left out was further
apart than r_c + skin, and F shortens no vector below s times its length, s the smallest
singular value of F. So the list holds as long as displacements from the sites r_0 F do not
add up to more than s (r_c + skin) - r_c.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.neighbors import Edges, neighbor_list
from gkflux.system import System

__all__ = ["SkinLists", "cells_of", "reverse_edges"]

Floats = NDArray[np.float64]

# Å: solids never leave the second, liquids rebuild every 20 steps or so with the first
START, LARGEST = 0.5, 2.0
# grow while lists take more than this part of the time
SHARE = 0.05


def cells_of(systems: Sequence[System], cells: Floats | None = None) -> list[Floats | None]:
    """Return the cell of every replica: those given, else those of the systems.

    Raises:
        FluxError: not one cell a replica.
    """
    if cells is None:
        return [system.cell for system in systems]
    if np.shape(cells) != (len(systems), 3, 3):
        raise FluxError(
            f"cells have shape {np.shape(cells)}, this batch is for {(len(systems), 3, 3)}"
        )
    return [np.array(cell, dtype=np.float64) for cell in cells]


@dataclass
class _Clock:
    """What one replica has spent since its list was built, s."""

    built: float = 0.0
    building: float = 0.0


class SkinLists:
    """Lists of all replicas, each rebuilt when it must be.

    Args:
        systems: replicas; cells may differ.
        cutoff: Å.
        skin: Å; None starts at 0.5 and grows while lists cost more than 5 % of the time.
    """

    def __init__(
        self, systems: Sequence[System], cutoff: float, skin: float | None
    ) -> None:
        if skin is not None and not skin >= 0.0:
            raise FluxError(f"skin {skin} is not a length in Å")
        self.cutoff = cutoff
        self.skin = min(START, cutoff / 2) if skin is None else skin
        self.rebuilds = 0
        self._tuned = skin is None
        self._systems = list(systems)
        self._skins = [self.skin] * len(systems)
        self._edges: list[Edges | None] = [None] * len(systems)
        self._clocks = [_Clock() for _ in systems]
        self._cells = cells_of(systems)
        self._built: list[Floats | None] = list(self._cells)
        self._origin: Floats = np.full((len(systems), systems[0].n_atoms, 3), np.nan)

    @property
    def edges(self) -> list[Edges]:
        """The lists as they are; all of them are there after the first `update`."""
        return [edges for edges in self._edges if edges is not None]

    @property
    def cells(self) -> list[Floats | None]:
        """Those of the last `update`, one a replica; at first those of the systems."""
        return self._cells

    def update(self, positions: Floats, cells: Floats | None = None) -> list[int]:
        """Rebuild what must be for positions ``(R, n, 3)``, Å; return which replicas.

        Args:
            positions: Å.
            cells: ``(R, 3, 3)``, Å; None: those of the systems.

        Raises:
            FluxError: positions that are not finite.
        """
        self._cells = cells_of(self._systems, cells)
        stale = [r for r in range(len(self._systems)) if self._stale(positions[r], r)]
        for r in stale:
            self._build(positions[r], r)
        return stale

    def _stale(self, positions: Floats, r: int) -> bool:
        """Whether two atoms may have moved through the skin; also at nan, and at first."""
        if self._edges[r] is None or not len(positions):
            return self._edges[r] is None
        origin, allowed = self._reference(r)
        moved = positions - origin
        square = np.einsum("ia,ia->i", moved, moved)
        # twice the largest is a bound on the two largest, and cheaper
        if 4.0 * square.max() <= allowed**2 and allowed >= 0.0:
            return False
        if len(square) == 1:  # its images move with it; what is not finite is noticed
            return not (np.isfinite(square[0]) and allowed >= 0.0)
        two = np.sqrt(np.partition(square, -2)[-2:]).sum()
        return not two <= allowed * (1.0 - 1e-12)

    def _reference(self, r: int) -> tuple[Floats, float]:
        """Where atoms would be had they moved with the cell, and how far two may be off."""
        cell, built = self._cells[r], self._built[r]
        if cell is None or built is None or cell is built or np.array_equal(cell, built):
            return self._origin[r], self._skins[r]
        stretch = np.linalg.pinv(built) @ cell
        least = float(np.linalg.svd(stretch, compute_uv=False)[-1]) * (1.0 - 1e-12)
        reach = self.cutoff + self._skins[r]
        return self._origin[r] @ stretch, least * reach - self.cutoff

    def _build(self, positions: Floats, r: int) -> None:
        start = perf_counter()
        self._tune(r, start)
        cell, reach = self._cells[r], self.cutoff + self._skins[r]
        self._edges[r] = neighbor_list(positions, cell, self._systems[r].pbc, reach)
        self._origin[r], self._built[r] = positions, cell
        self.rebuilds += 1
        now = perf_counter()
        self._clocks[r] = _Clock(now, now - start)

    def _tune(self, r: int, now: float) -> None:
        """Grow the skin if building has cost much of the time since the last list."""
        clock = self._clocks[r]
        if self._tuned and clock.building > SHARE * (now - clock.built) > 0.0:
            self._skins[r] = min(1.25 * self._skins[r], LARGEST)
            self.skin = max(self._skins)


def reverse_edges(edges: Edges) -> NDArray[np.int64]:
    """For every edge (c <- o, S) the place of (o <- c, -S) in the list, shape ``(E,)``.

    Raises:
        FluxError: the list is not full.
    """
    shift = edges.shift.astype(np.int64)
    span = 2 * int(np.abs(shift).max(initial=0)) + 1
    weights = np.array([span * span, span, 1])
    n = len(edges.row) - 1
    mirrored = (edges.other * n + edges.centre) * span**3 - shift @ weights
    reverse = np.argsort(mirrored)
    key = (edges.centre * n + edges.other) * span**3 + shift @ weights
    if not np.array_equal(mirrored[reverse], key):
        raise FluxError("the neighbour list is not full: an edge has no reverse edge")
    return reverse
