"""The protocols: what a potential offers, and what an engine for dynamics offers.

A `Potential` maps edge vectors to per-atom energies, in plain differentiable torch. Where
node features travel along edges, it fetches them with the `gather` it is handed, and in no
other way: the flux must know every place where information moves between atoms. From that
alone follow energies, forces, stress and the exact heat flux (``gkflux/flux``).

A `Batch` runs R replicas of the same atoms, fast. It owns its neighbour list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.system import System

__all__ = [
    "Batch",
    "Books",
    "Evaluation",
    "FluxResult",
    "Gather",
    "KeepsBooks",
    "Potential",
    "Result",
    "Statistics",
    "check_elements",
    "gather",
]

Floats = NDArray[np.float64]

Gather = Callable[[Tensor, Tensor], Tensor]
"""``gather(x, other)``: rows of atoms along edges, ``(n, ...)`` to ``(E, ...)``.

Rows may be scalars ``(n, F)``, vectors ``(n, F, 3)``, or of any other shape.
"""


def gather(x: Tensor, other: Tensor) -> Tensor:
    """Take the rows, and nothing else: the `Gather` of an ordinary evaluation."""
    return x[other]


class Evaluation(NamedTuple):
    """What one force call of a `Batch` gives, float64.

    ``energy``: ``(R,)``, eV. ``energies``: ``(R, n)``, U_i with mean and atomrefs, eV.
    ``forces``: ``(R, n, 3)``, eV/Å. ``virial``: ``(R, 3, 3)``, eV, sum of d (x) G.
    """

    energy: Floats
    energies: Floats
    forces: Floats
    virial: Floats


class FluxResult(NamedTuple):
    """Extensive heat flux of R replicas, eV Å/fs.

    ``plain``: ``(R, 3)``, J_pot + J_conv in no gauge (J_pot alone without ``convective``).
    ``lattice``: ``(R, 3)``, J_0 in the gauge of the reference lattice, or None.
    ``power``: ``(R,)``, sum over atoms of dU_i/dt by the flux' own books, or None; eV/fs.
    """

    plain: Floats
    lattice: Floats | None
    power: Floats | None = None


class Books(NamedTuple):
    """What the edges of R replicas carried in a heat flux; eV/fs.

    ``gain``: ``(R, n)``: sum of P_e over the edges of an atom, less what it gave to others.
    ``size``: ``(R, n)``: sum of abs(P_e) over its edges: what ``gain`` is rounded against.
    """

    gain: Floats
    size: Floats


@dataclass(frozen=True)
class Result:
    """Properties of one `System`; None where not asked for.

    ``energy``: eV. ``energies``: ``(n,)``, eV. ``forces``: ``(n, 3)``, eV/Å.
    ``stress``: ``(3, 3)``, potential part, tension positive, eV/Å³.
    ``heat_flux``: ``(3,)``, extensive, with the convective part, no gauge, eV Å/fs.
    """

    energy: float | None = None
    energies: Floats | None = None
    forces: Floats | None = None
    stress: Floats | None = None
    heat_flux: Floats | None = None


@dataclass
class Statistics:
    """What an engine knows of its neighbour lists.

    ``calls``: force calls. ``rebuilds``: lists built, all replicas. ``skin``: Å, now.
    ``edges``: edges of all replicas, those in the skin among them.
    """

    calls: int = 0
    rebuilds: int = 0
    skin: float = 0.0
    edges: int = 0
    extra: dict[str, float] = field(default_factory=dict)


class Batch(Protocol):
    """The engine for dynamics: R replicas of the same n atoms."""

    @property
    def statistics(self) -> Statistics:
        """Counters, for logs and tests."""
        ...

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        """Energies and forces at positions of shape ``(R, n, 3)``, Å, unwrapped.

        Args:
            positions: of the replicas.
            cells: ``(R, 3, 3)``, Å, of this call and the flux after it; None: those that
                the systems came with.

        Raises:
            FluxError: positions that are not finite.
        """
        ...

    def heat_flux(
        self,
        velocities: Floats,
        *,
        formulation: str = "semilocal",
        lattice: Floats | None = None,
        convective: bool = True,
    ) -> FluxResult:
        """Heat flux at the positions of the last `forces` call, whose features it uses.

        Args:
            velocities: ``(R, n, 3)``, Å/fs, at the same time as those positions.
            formulation: "semilocal", or "local": the virial form without the power that
                messages carry, which is exact for one interaction layer only.
            lattice: ``(n, 3)``, Å: equilibrium positions next to their atoms.
            convective: add sum_i (m v^2 / 2 + U_i - u_s) v_i to the plain flux.
        """
        ...


@runtime_checkable
class KeepsBooks(Protocol):
    """A `Batch` that can tell what its edges carried: ``check_balance`` needs it."""

    def books(self) -> Books:
        """The books of the last `heat_flux` call, from the powers it has used."""
        ...


@runtime_checkable
class Potential(Protocol):
    """Per-atom energies from edge vectors, and what is built on them."""

    @property
    def cutoff(self) -> float:
        """Å."""
        ...

    @property
    def layers(self) -> int:
        """Interaction layers; the "local" flux is exact for one only."""
        ...

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers the model is trained on; None: unknown, or any will do."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Plain values that name the model: file, sha256, kind, dtype ..."""
        ...

    def energies(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Gather = gather,
    ) -> Tensor:
        """U_i, shape ``(n,)``, eV, from edge vectors d, shape ``(E, 3)``, Å."""
        ...

    def reference_energies(self, numbers: NDArray[np.int64]) -> Floats:
        """u_s, shape ``(n,)``, eV: constants of the species; 0 for a model without."""
        ...

    def __call__(
        self,
        system: System,
        velocities: Floats | None = None,
        compute: Sequence[str] = ("energy", "forces"),
    ) -> Result:
        """Compute some of energy, energies, forces, stress, heat_flux."""
        ...

    def batch(self, systems: Sequence[System], *, skin: float | None = None) -> Batch:
        """Return the engine for replicas of the same atoms; skin None tunes itself."""
        ...


def check_elements(elements: frozenset[int] | None, numbers: NDArray[np.int64]) -> None:
    """Refuse species that a model was never trained on.

    Raises:
        FluxError: there is one.
    """
    if elements is None:
        return
    strange = set(np.unique(numbers).tolist()) - elements
    if strange:
        first = int(np.argmax(np.isin(numbers, list(strange))))
        raise FluxError(
            f"the model is not trained on {_names(strange)}, first at atom {first}; use "
            "another model, or check the species of the structure (where the file of the "
            "model does not name them, potential.elements of a run or elements= of "
            "load_potential does)"
        )


def _names(numbers: set[int]) -> str:
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[z] for z in sorted(numbers))
