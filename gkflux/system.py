"""Atoms at one instant: positions, cell, species, masses and velocities.

A `System` is immutable data in the units of the project (Å, amu, Å/fs). Periodic directions
need a lattice vector; a direction that is not periodic needs none, and where one is given,
it is a box that holds the atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.errors import FluxError
from stepson.units import ASE_TIME

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["System"]

Floats = NDArray[np.float64]

MOST = 1e8
"""Atoms of a supercell; more do not fit into memory with their neighbours."""


@dataclass(frozen=True, eq=False, init=False)
class System:
    """Atoms, and the box they live in. Arrays are copied, and read-only.

    ``positions``: shape ``(n, 3)``, Å.
    ``numbers``: shape ``(n,)``, atomic numbers.
    ``cell``: shape ``(3, 3)``, lattice vectors as rows, Å; None for a cluster.
    ``pbc``: shape ``(3,)``.
    ``masses``: shape ``(n,)``, amu.
    ``velocities``: shape ``(n, 3)``, Å/fs, or None.
    """

    positions: Floats
    numbers: NDArray[np.int64]
    cell: Floats | None
    pbc: NDArray[np.bool_]
    masses: Floats
    velocities: Floats | None

    def __init__(
        self,
        *,
        positions: ArrayLike,
        numbers: ArrayLike,
        cell: ArrayLike | None = None,
        pbc: ArrayLike | None = None,
        masses: ArrayLike | None = None,
        velocities: ArrayLike | None = None,
    ) -> None:
        """Check and copy.

        Args:
            positions: shape ``(n, 3)``, Å. Unwrapped positions are welcome.
            numbers: shape ``(n,)``.
            cell: shape ``(3, 3)`` or three lengths, Å; None for a cluster.
            pbc: one bool or three; by default True where there is a cell.
            masses: shape ``(n,)``, amu; by default those of the elements.
            velocities: shape ``(n, 3)``, Å/fs.

        Raises:
            FluxError: shapes that do not fit, values that are not finite, a periodic
                direction without a lattice vector, atoms outside of a non-periodic cell.
        """
        self._set(positions, numbers, cell, pbc, masses, velocities)
        _check_inside(self)

    def _set(
        self,
        positions: ArrayLike,
        numbers: ArrayLike,
        cell: ArrayLike | None,
        pbc: ArrayLike | None,
        masses: ArrayLike | None,
        velocities: ArrayLike | None,
    ) -> None:
        points = _array("positions", positions, (-1, 3))
        n = len(points)
        species = _numbers(numbers, n)
        box = None if cell is None else _cell(cell)
        values = {
            "positions": points,
            "numbers": species,
            "cell": box,
            "pbc": _periodic(box is not None if pbc is None else pbc),
            "masses": _array(
                "masses", _masses(species) if masses is None else masses, (n,)
            ),
            "velocities": None
            if velocities is None
            else _array("velocities", velocities, (n, 3)),
        }
        if not np.all(np.asarray(values["masses"]) > 0):
            raise FluxError("masses must be positive, in amu")
        for name, value in values.items():
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)
        _check_box(self)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Å³; nan where the lattice vectors enclose none: a cluster, a slab without box."""
        if self.cell is None or not self.cell.any(axis=1).all():
            return float("nan")
        return float(abs(np.linalg.det(self.cell)))

    def __len__(self) -> int:
        return self.n_atoms

    def __repr__(self) -> str:
        box = "cluster" if self.cell is None else f"{self.volume:.1f} Å³"
        return f"System({self.formula}, {self.n_atoms} atoms, {box})"

    @property
    def formula(self) -> str:
        """Chemical formula in Hill's order, as ``O64Zr32``."""
        from ase.formula import Formula
        from ase.symbols import Symbols

        return str(
            Formula(str(Symbols(self.numbers).get_chemical_formula())).format("hill")
        )

    def moved(
        self,
        positions: ArrayLike,
        cell: ArrayLike | None = None,
        velocities: ArrayLike | None = None,
    ) -> System:
        """Return the same atoms elsewhere, without velocities unless some are given.

        Atoms on their way may leave the box of a direction that is not periodic.
        """
        box = self.cell if cell is None else cell
        other = object.__new__(System)
        other._set(positions, self.numbers, box, self.pbc, self.masses, velocities)
        return other

    def repeat(self, times: int | Sequence[int]) -> System:
        """Repeat along the lattice vectors, in ASE's order: the last one runs fastest.

        Raises:
            FluxError: there is no cell, or a number below one.
        """
        if self.cell is None:
            raise FluxError("no cell to repeat: a cluster cannot be a supercell")
        given = _plain(times)
        good = given.dtype.kind in "iu" and given.shape in ((), (3,))
        if not good or np.any(given < 1):
            raise FluxError(
                f"repeat({times}): give one whole number of at least 1, or three"
            )
        counts = np.broadcast_to(given, (3,))
        total = self.n_atoms * prod(counts.tolist())
        if total > MOST:
            raise FluxError(f"repeat({times}) would make {total:.3g} atoms, above {MOST:g}")
        copies = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1)
        shifts = copies.reshape(-1, 3) @ self.cell
        k = len(shifts)
        velocities = self.velocities
        return System(
            positions=(shifts[:, None] + self.positions).reshape(-1, 3),
            numbers=np.tile(self.numbers, k),
            cell=self.cell * counts[:, None],
            pbc=self.pbc,
            masses=np.tile(self.masses, k),
            velocities=None if velocities is None else np.tile(velocities, (k, 1)),
        )

    @classmethod
    def from_ase(cls, atoms: Atoms) -> System:
        """Take over an ``ase.Atoms``; momenta, if any, become velocities in Å/fs."""
        source: Any = atoms
        pbc = np.asarray(source.pbc, dtype=bool)
        cell = np.asarray(source.cell.array, dtype=np.float64)
        velocities = source.get_velocities() / ASE_TIME if source.has("momenta") else None
        return cls(
            positions=source.get_positions(),
            numbers=source.get_atomic_numbers(),
            cell=cell if pbc.any() or cell.any() else None,
            pbc=pbc,
            masses=source.get_masses(),
            velocities=velocities,
        )

    def to_ase(self) -> Atoms:
        """Return an ``ase.Atoms`` with the same atoms, cell and velocities."""
        from ase import Atoms

        atoms: Any = Atoms(
            numbers=self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            masses=self.masses,
        )
        if self.velocities is not None:
            atoms.set_velocities(self.velocities * ASE_TIME)
        return cast("Atoms", atoms)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> System:
        """Read any structure file that ASE reads (the last frame of several).

        A name that ends in ``.in`` is read as FHI-aims' ``geometry.in``.

        Raises:
            FluxError: no such file, or not a structure.
        """
        import ase.io

        name = str(path)
        kind = "aims" if name.endswith(".in") else None
        try:
            atoms = ase.io.read(name, format=kind)
        except FileNotFoundError:
            raise FluxError(f"no structure file {name}") from None
        except Exception as error:
            raise FluxError(
                f"{name} is not a structure that ASE can read: {_reason(error)}"
            ) from error
        try:
            return cls.from_ase(atoms[-1] if isinstance(atoms, list) else atoms)
        except FluxError as error:
            raise FluxError(f"{name}: {error}") from None


def _reason(error: Exception) -> str:
    """Put what ASE raised into one line; some of it is a bare word."""
    from ase.io.formats import UnknownFileTypeError

    if isinstance(error, UnknownFileTypeError) and " " not in str(error):
        return "its type is not known; use a name such as x.xyz, x.cif or x.in"
    if isinstance(error, KeyError):
        return f"{error} is no chemical element or key known there"
    return " ".join(str(error).split()) or type(error).__name__


def _array(name: str, values: Any, shape: tuple[int, ...]) -> Floats:
    try:
        array = np.array(values, order="C")
        array = array.astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise FluxError(
            f"{name} must be real numbers, expected {len(shape)} axes"
        ) from None
    fits = array.ndim == len(shape) and all(
        want in (-1, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = tuple("n" if want == -1 else want for want in shape)
        raise FluxError(f"{name} has shape {array.shape}, expected {expected}")
    if not np.isfinite(array).all():
        raise FluxError(f"{name} holds values that are not finite")
    return array


def _plain(values: Any) -> NDArray[Any]:
    """Return an array; one of no numbers where rows have several lengths."""
    try:
        return np.array(values)
    except ValueError:
        return np.array("ragged")


def _periodic(values: Any) -> NDArray[np.bool_]:
    array = _plain(values)
    if array.dtype.kind not in "biu" or array.shape not in ((), (1,), (3,)):
        raise FluxError(f"pbc is {values!r}; give True, False or three of them")
    return np.array(np.broadcast_to(array.astype(bool), (3,)))


def _cell(values: Any) -> Floats:
    array = _plain(values)
    return _array("cell", np.diag(array) if array.shape == (3,) else array, (3, 3))


def _numbers(values: ArrayLike, n: int) -> NDArray[np.int64]:
    numbers = _plain(values)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise FluxError(
            "numbers must be atomic numbers, such as 18, not names or fractions"
        )
    numbers = numbers.astype(np.int64)
    if numbers.shape != (n,):
        raise FluxError(f"numbers has shape {numbers.shape}, expected ({n},): one an atom")
    return numbers


def _masses(numbers: NDArray[np.int64]) -> Floats:
    from ase.data import atomic_masses

    if len(numbers) and not 1 <= numbers.min() <= numbers.max() < len(atomic_masses):
        raise FluxError("numbers must be atomic numbers; give masses= for anything else")
    return np.asarray(atomic_masses[numbers], dtype=np.float64)


def _check_box(system: System) -> None:
    """Refuse a lattice that spans nothing."""
    cell, pbc = system.cell, system.pbc
    if cell is None:
        if pbc.any():
            raise FluxError("pbc is set, but there is no cell: give cell=, or pbc=False")
        return
    given = cell.any(axis=1)
    if np.linalg.matrix_rank(cell[given]) < given.sum():
        raise FluxError("the lattice vectors of the cell are linearly dependent")
    if np.any(pbc & ~given):
        raise FluxError("a periodic direction has no lattice vector; check cell and pbc")


def _check_inside(system: System) -> None:
    """Refuse atoms outside of a box: a sign of wrong units, or of a wrong pbc."""
    cell, fixed = system.cell, ~system.pbc
    if cell is None or not fixed.any() or not cell.any(axis=1).all():
        return
    fractional = np.linalg.solve(cell.T, system.positions.T).T[:, fixed]
    beyond = np.abs(fractional - 0.5) > 0.5 + 1e-9
    outside = np.flatnonzero(beyond.any(axis=1))
    if len(outside):
        raise FluxError(
            f"atoms outside of a non-periodic cell: {len(outside)}, the first is atom "
            f"{outside[0]}; enlarge the cell, or give cell=None for a cluster"
        )
