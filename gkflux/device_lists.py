"""Neighbour lists of all replicas on a device, in memory that stays where it is.

Lists stand one after the other, with a skin, and with room to grow: as long as they fit,
recorded kernels (CUDA graphs) find new ones where the old ones were.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.neighbors_gpu import device_neighbor_list, edge_shifts
from gkflux.system import System

__all__ = ["DeviceLists"]

Floats = NDArray[np.float64]

# room for edges beyond those of the first list
HEADROOM = 1.15
# Å: lists are rebuilt between blocks of steps, so the skin is wide; see `DeviceLists.widen`
START, LARGEST = 1.0, 2.0


class DeviceLists:
    """The lists of R replicas of n atoms, joined, with a skin.

    Attributes:
        row: ``(R n + 1,)``, int32.
        other: ``(room,)``, int32, rows of all replicas. reverse: ``(room,)``, int32.
        vectors: ``(room, 3)``, Å, float64.
        origin: ``(R n, 3)``, Å: the positions that the lists are built for.
        moved: ``(R n,)``, Å²: the largest square of a distance from there so far, which
            whoever moves the atoms keeps, by `note` or otherwise.
        cells: one a replica, now; None for a cluster.
        skin: Å, now. rebuilds: lists built, all replicas. edges: there are now.
        version: changes when the memory of any of these tensors is another.
    """

    def __init__(
        self,
        systems: Sequence[System],
        cutoff: float,
        skin: float | None,
        device: torch.device,
    ) -> None:
        """Prepare; `build` finds the first lists.

        Args:
            systems: replicas; cells may differ.
            cutoff: Å.
            skin: Å; None starts at 1 Å and grows when lists do not last.
            device: of all tensors.

        Raises:
            FluxError: a skin that is no length.
        """
        if skin is not None and not skin >= 0.0:
            raise FluxError(f"skin {skin} is not a length in Å")
        self.cutoff, self._tuned = cutoff, skin is None
        self.skin = min(START, cutoff / 2) if skin is None else skin
        self.rebuilds = self.edges = self.version = 0
        self._reach = np.nan
        self._systems, self._device = list(systems), device
        self.cells: list[Floats | None] = [system.cell for system in systems]
        self._built = self.cells
        self.n = systems[0].n_atoms
        rows = len(systems) * self.n
        self.row = torch.zeros(rows + 1, dtype=torch.int32, device=device)
        self.origin = torch.zeros(rows, 3, dtype=torch.float64, device=device)
        self.moved = torch.zeros(rows, dtype=torch.float64, device=device)
        self._allocate(0)

    def _allocate(self, room: int) -> None:
        ints = torch.zeros(5, room, dtype=torch.int32, device=self._device)
        self.other, self.reverse = ints[0], ints[1]
        self._shift = ints[2:].T
        self.vectors = torch.zeros(room, 3, dtype=torch.float64, device=self._device)
        self.version += 1

    def take(self, cells: Floats | None) -> None:
        """Use these cells from now on, ``(R, 3, 3)``, Å; None: those of the systems.

        Raises:
            FluxError: not one cell a replica.
        """
        shape = (len(self._systems), 3, 3)
        if cells is not None and np.shape(cells) != shape:
            raise FluxError(
                f"cells have shape {np.shape(cells)}, this batch is for {shape}"
            )
        new = [system.cell for system in self._systems] if cells is None else [*cells]
        for r, (cell, before) in enumerate(zip(new, self.cells, strict=True)):
            if cell is not None and not _equal(cell, before):
                self._place(r, cell)
        self.cells = [None if cell is None else np.array(cell) for cell in new]

    def _place(self, r: int, cell: Floats) -> None:
        """Take up another cell in the vectors of a replica."""
        if self.edges:
            start, end = self.row[[r * self.n, (r + 1) * self.n]].tolist()
            lattice = torch.tensor(cell, device=self._device)
            self.vectors[start:end] = edge_shifts(self._shift[start:end], lattice)

    def fits(self, positions: Tensor) -> bool:
        """Whether the lists hold at positions ``(R n, 3)``, Å. Waits for the device.

        As in `skin.SkinLists`: atoms are compared with where they would be had they moved
        with their cell, and what a cell has shrunk is taken from the skin.
        """
        if not self.rebuilds:
            return False
        count = len(self._systems)
        reference, allowed = (
            self.origin.view(count, -1, 3),
            [self._reach - self.cutoff] * count,
        )
        for r, (cell, built) in enumerate(zip(self.cells, self._built, strict=True)):
            if cell is None or built is None or _equal(cell, built):
                continue
            stretch = np.linalg.pinv(built) @ cell
            least = float(np.linalg.svd(stretch, compute_uv=False)[-1]) * (1.0 - 1e-12)
            allowed[r] = max(least * self._reach - self.cutoff, -1.0)
            reference = reference.clone()
            reference[r] = reference[r] @ torch.tensor(stretch, device=self._device)
        away = positions.view(count, -1, 3) - reference
        # twice the largest distance bounds the two largest
        far = 2.0 * away.norm(dim=2).amax(1).cpu().numpy()
        return bool((far <= np.array(allowed) * (1.0 - 1e-12)).all())

    def build(self, positions: Tensor) -> None:
        """Find the edges of all replicas at positions ``(R n, 3)``, Å; reset ``moved``.

        Raises:
            FluxError: see `device_neighbor_list`.
        """
        reach, n = self.cutoff + self.skin, self.n
        lists = [
            device_neighbor_list(
                positions[r * n : (r + 1) * n], self.cells[r], tuple(system.pbc), reach
            )
            for r, system in enumerate(self._systems)
        ]
        self.edges = sum(len(edges.other) for edges in lists)
        if self.edges > len(self.other):
            # whole lines of memory: kernels are compiled for the alignment of what they get
            self._allocate(64 * (int(self.edges * HEADROOM) // 64 + 1))
        start = 0
        for r, edges in enumerate(lists):
            end = start + len(edges.other)
            self.row[r * n : (r + 1) * n + 1] = edges.row + start
            self.other[start:end] = edges.other + r * n
            self.reverse[start:end] = edges.reverse + start
            self._shift[start:end] = edges.shift
            self.vectors[start:end] = edges.vectors
            start = end
        self.origin.copy_(positions)
        self.moved.zero_()
        self._built, self._reach = list(self.cells), reach
        self.rebuilds += len(lists)

    def note(self, positions: Tensor) -> None:
        """Let ``moved`` grow to where atoms are now, nan where they are nowhere."""
        away = positions - self.origin
        square = (away[:, 0] ** 2 + away[:, 1] ** 2) + away[:, 2] ** 2
        torch.maximum(self.moved, square, out=self.moved)

    def held(self, moved: float) -> bool:
        """Whether the lists held all the time, in cells as they were built for.

        Args:
            moved: the largest of ``moved``, Å², once it is on the host.
        """
        return 4.0 * moved <= (self._reach - self.cutoff) ** 2 * (1.0 - 1e-12)

    def widen(self) -> None:
        """Take a wider skin next time, unless the caller chose it."""
        if self._tuned:
            self.skin = min(1.25 * self.skin, LARGEST)


def _equal(a: Floats, b: Floats | None) -> bool:
    return b is not None and np.array_equal(a, b)
