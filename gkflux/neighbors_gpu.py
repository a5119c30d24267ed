"""The neighbour list in torch, on whatever device the positions are on.

The same list as `neighbors.neighbor_list`, edge for edge: directed, full, every image, in
canonical order. Atoms are sorted into bins of about the cutoff; candidates are the atoms of
all bins that a sphere of that radius can reach, through as many images as it takes.

`DeviceLists` holds the lists of all replicas one after the other, in memory that stays
where it is while they fit, so that recorded kernels (CUDA graphs) can be run again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.neighbors import refuse_crowd
from gkflux.system import System

__all__ = ["DeviceEdges", "DeviceLists", "device_neighbor_list", "square_root"]

Floats = NDArray[np.float64]

# candidates looked at together: bounds the memory
PORTION = 1 << 22
# room for edges beyond those of the first list
HEADROOM = 1.15
# Å: lists are rebuilt between blocks of steps, so the skin is wide; see `DeviceLists.widen`
START, LARGEST = 1.0, 2.0


class DeviceEdges(NamedTuple):
    """As `neighbors.Edges`, int64 tensors; ``vectors``: shift @ cell, ``(E, 3)``, Å.

    ``reverse``: place of (o <- c, -S) in the list, ``(E,)``.
    """

    row: Tensor
    other: Tensor
    shift: Tensor
    vectors: Tensor
    reverse: Tensor


class _Grid(NamedTuple):
    """Bins along three directions, of which some are periodic; all in host memory.

    ``frame``: rows, Å: lattice vectors, and what completes them. ``low``: where the first
    bin begins, in units of the frame; ``bins``: how many; ``reach``: bins to search on
    either side.
    """

    frame: Floats
    periodic: NDArray[np.bool_]
    low: Floats
    length: Floats
    bins: NDArray[np.int64]
    reach: NDArray[np.int64]


def device_neighbor_list(
    positions: Tensor, cell: Floats | None, pbc: Sequence[bool], cutoff: float
) -> DeviceEdges:
    """Find all edges shorter than the cutoff; see `neighbors.neighbor_list`.

    Args:
        positions: ``(n, 3)``, Å, float64, unwrapped.
        cell: ``(3, 3)``, rows, Å; None for a cluster.
        pbc: three.
        cutoff: Å.

    Raises:
        FluxError: positions that are not finite, or too far apart, or far too dense.
    """
    if not bool(torch.isfinite(positions).all()):
        raise FluxError(
            "positions are not finite; the run has exploded, or the file is wrong"
        )
    periodic = np.array(pbc, dtype=bool) & (cell is not None)
    box = np.zeros((3, 3)) if cell is None else np.where(periodic[:, None], cell, 0.0)
    refuse_crowd(len(positions), box, periodic, cutoff)
    grid = _grid(positions, box, periodic, cutoff)
    centre, other, shift = _pairs(positions, grid, box, cutoff)
    return _sorted(len(positions), centre, other, shift, box)


def _grid(
    positions: Tensor, box: Floats, periodic: NDArray[np.bool_], cutoff: float
) -> _Grid:
    """Choose bins no thinner than the cutoff, and no more of them than atoms."""
    frame = box.copy()
    if not periodic.all():
        # directions at right angles to the lattice vectors that there are
        _, _, axes = np.linalg.svd(box[periodic].reshape(-1, 3))
        frame[~periodic] = axes[int(periodic.sum()) :]
    low, length = np.zeros(3), np.ones(3)
    if len(positions) and not periodic.all():
        inverse = torch.tensor(np.linalg.inv(frame), device=positions.device)
        places = positions @ inverse
        least, most = places.amin(0).cpu().numpy(), places.amax(0).cpu().numpy()
        low = np.where(periodic, 0.0, least)
        length = np.where(periodic, 1.0, np.maximum(most - least, 1e-3))
    # distances between opposite faces
    heights = length / np.linalg.norm(np.linalg.inv(frame), axis=0)
    most_bins = max(1, round(len(positions) ** (1 / 3)))
    bins = np.clip(np.floor(heights / cutoff * (1 - 1e-9)), 1, most_bins).astype(np.int64)
    reach = np.ceil(cutoff * bins / heights * (1 + 1e-9)).astype(np.int64)
    reach[~periodic] = np.minimum(reach, bins - 1)[~periodic]
    return _Grid(frame, periodic, low, length, bins, reach)


def _pairs(
    positions: Tensor, grid: _Grid, box: Floats, cutoff: float
) -> tuple[Tensor, Tensor, Tensor]:
    """All edges in no order: centre, other, shift between unwrapped atoms."""
    device, n = positions.device, len(positions)
    bins, periodic = (torch.tensor(x, device=device) for x in (grid.bins, grid.periodic))
    inverse = torch.tensor(np.linalg.inv(grid.frame), device=device)
    low, length = (torch.tensor(x, device=device) for x in (grid.low, grid.length))
    places = (positions @ inverse - low) / length
    image = torch.where(periodic, places.floor(), 0.0)
    cell = ((places - image) * bins).long().clamp(min=0).minimum(bins - 1)
    image = image.long()
    flat = (cell[:, 0] * bins[1] + cell[:, 1]) * bins[2] + cell[:, 2]
    order = torch.argsort(flat)
    count = torch.bincount(flat, minlength=int(grid.bins.prod()))
    start = torch.cumsum(count, 0) - count
    spans = [torch.arange(-m, m + 1, device=device) for m in grid.reach.tolist()]
    offsets = torch.cartesian_prod(*spans)
    crowd = torch.arange(int(count.max()) if n else 0, device=device)
    lattice = torch.tensor(box, device=device)
    found = []
    portion = max(1, PORTION // max(1, len(offsets) * len(crowd)))
    for first in range(0, n, portion):
        here = torch.arange(first, min(first + portion, n), device=device)
        target = cell[here, None] + offsets
        through = torch.where(periodic, target.div(bins, rounding_mode="floor"), 0)
        wrapped = target - through * bins
        valid = ((wrapped >= 0) & (wrapped < bins)).all(-1)
        wrapped = wrapped.clamp(min=0).minimum(bins - 1)
        bin = (wrapped[..., 0] * bins[1] + wrapped[..., 1]) * bins[2] + wrapped[..., 2]
        present = valid[..., None] & (crowd < count[bin][..., None])
        i, j, k = present.nonzero(as_tuple=True)
        c, o = here[i], order[start[bin[i, j]] + k]
        shift = through[i, j] - image[o] + image[c]
        d = (positions[o] - positions[c]) + _vectors(shift, lattice)
        r = square_root((d[:, 0] ** 2 + d[:, 1] ** 2) + d[:, 2] ** 2)
        kept = (r < cutoff) & ((c != o) | (shift != 0).any(1))
        found.append((c[kept], o[kept], shift[kept]))
    if not found:
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        return nothing, nothing, nothing.reshape(0, 3)
    centre, other, shift = (torch.cat(parts) for parts in zip(*found, strict=True))
    return centre, other, shift


def square_root(x: Tensor) -> Tensor:
    """Rounded as IEEE 754 asks, which torch's own on a CPU is not always."""
    if x.device.type == "cpu":
        return torch.from_numpy(np.sqrt(x.numpy()))
    return torch.sqrt(x)


def _vectors(shift: Tensor, lattice: Tensor) -> Tensor:
    """Shift @ cell, in the order of `Edges.vectors`: the same bits."""
    a, b, c = (shift[:, k, None] * lattice[k] for k in range(3))
    return (a + b) + c


def _sorted(
    n: int, centre: Tensor, other: Tensor, shift: Tensor, box: Floats
) -> DeviceEdges:
    """Canonical order; the reverse edges by sorting the list as its mirror image."""
    span = 2 * (int(shift.abs().max()) if len(shift) else 0) + 1
    if n * n * span**3 >= 2**63:
        raise FluxError("atoms are too many lattice vectors apart; has an atom been lost?")
    number = (shift[:, 0] * span + shift[:, 1]) * span + shift[:, 2]
    order = torch.argsort((centre * n + other) * span**3 + number)
    centre, other, shift, number = (x[order] for x in (centre, other, shift, number))
    reverse = torch.argsort((other * n + centre) * span**3 - number)
    row = torch.zeros(n + 1, dtype=torch.int64, device=centre.device)
    row[1:] = torch.cumsum(torch.bincount(centre, minlength=n), 0)
    lattice = torch.tensor(box, device=centre.device)
    return DeviceEdges(row, other, shift, _vectors(shift, lattice), reverse)


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
            self.vectors[start:end] = _vectors(self._shift[start:end], lattice)

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
