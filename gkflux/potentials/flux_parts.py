"""What all engines share of the heat flux, beyond their networks."""

import numpy as np
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.potentials.base import Books
from stepson.units import KINETIC

__all__ = [
    "FORMULATIONS",
    "books_of",
    "check_formulation",
    "check_motion",
    "check_shape",
    "convective_flux",
    "total",
]

Floats = NDArray[np.float64]

FORMULATIONS = ("semilocal", "local")


def check_formulation(name: str) -> bool:
    """Return whether the power of messages counts.

    Raises:
        FluxError: an engine does not have this formulation.
    """
    if name not in FORMULATIONS:
        raise FluxError(
            f"dynamics computes {' or '.join(FORMULATIONS)}, not {name!r}; the slow "
            "references are in gkflux.heat_flux"
        )
    return name == "semilocal"


def check_shape(name: str, values: Floats, expected: tuple[int, ...]) -> None:
    """Refuse an array that would be stretched to the replicas and atoms of a batch.

    Raises:
        FluxError: of another shape.
    """
    if np.shape(values) != expected:
        raise FluxError(
            f"{name} have shape {np.shape(values)}, this batch is for {expected}"
        )


def check_motion(
    velocities: Floats, lattice: Floats | None, expected: tuple[int, ...]
) -> None:
    """Check what a heat flux is given; ``expected``: ``(R, n, 3)``.

    Raises:
        FluxError: velocities or sites of another shape.
    """
    check_shape("velocities", velocities, expected)
    if lattice is not None:
        check_shape("sites of the lattice", lattice, expected[1:])


def books_of(
    power: Floats, centre: NDArray[np.integer], other: NDArray[np.integer], n_atoms: int
) -> Books:
    """Add up P_e, shape ``(E,)``, eV/fs, by atom: shapes ``(n,)``."""
    inwards, outwards, size = (
        np.asarray(np.bincount(ends, values, n_atoms), dtype=np.float64)
        for ends, values in ((centre, power), (other, power), (centre, np.abs(power)))
    )
    return Books(inwards - outwards, size)


def convective_flux(masses: Floats, energies: Floats, velocities: Floats) -> Floats:
    """Sum of (m v^2 / 2 + U_i - u_s) v, ``(R, 3)``, eV Å/fs.

    Args:
        masses: ``(R, n)``, amu.
        energies: U_i - u_s, ``(R, n)``, eV.
        velocities: ``(R, n, 3)``, Å/fs.
    """
    square = (velocities[..., 0] ** 2 + velocities[..., 1] ** 2) + velocities[..., 2] ** 2
    return total((0.5 * KINETIC * masses * square + energies)[..., None] * velocities)


def total(values: Floats) -> Floats:
    """Sum over atoms, axis 1, one after the other: the order is part of the result."""
    return np.add.accumulate(values, axis=1)[:, -1]
