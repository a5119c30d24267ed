"""The heat flux of one structure, in any formulation and gauge.

What `heat_flux` gives is the generic route, for any potential whose gathers are
declared; the engines for dynamics (`gkflux.potentials.base.Batch`) compute the same
numbers by hand, faster.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.errors import FluxError
from gkflux.flux.convective import convective_flux
from gkflux.flux.gauge import fit_lattice
from gkflux.flux.graph import checked_velocities
from gkflux.flux.local import local_power, warn_if_wrong
from gkflux.flux.references import hardy_flux, unfolded_flux
from gkflux.flux.semilocal import EdgePowers, edge_powers
from gkflux.neighbors import edge_vectors
from gkflux.potentials.base import Potential
from gkflux.system import System

__all__ = ["FORMULATIONS", "GAUGES", "Fluxes", "fluxes", "heat_flux"]

Array = NDArray[np.float64]

FORMULATIONS = ("semilocal", "local", "hardy", "unfolded")
"""semilocal is exact and fast; hardy and unfolded are exact and slow."""
GAUGES = ("none", "lattice")


class Fluxes(NamedTuple):
    """The heat flux in both gauges, from one evaluation."""

    plain: Array
    """``(3,)``, eV Å/fs: J_pot, and J_conv where asked for."""
    lattice: Array | None
    """``(3,)``, eV Å/fs: J_0, or None without a lattice."""


def heat_flux(
    potential: Potential,
    system: System,
    velocities: ArrayLike | None = None,
    *,
    formulation: str = "semilocal",
    convective: bool = True,
    gauge: str = "none",
    lattice: System | ArrayLike | None = None,
) -> Array:
    r"""Heat flux :math:`J = d/dt \sum_i r_i E_i` of a structure.

    Args:
        potential: any; one with more than one layer needs its gathers declared.
        system: the structure.
        velocities: shape ``(n, 3)``, Å/fs, taken as they are; by default the system's.
        formulation: ``semilocal``, or by name only ``local`` (the virial form, wrong for
            more than one layer), ``hardy`` and ``unfolded`` (slow references).
        convective: add what the atoms carry. The lattice gauge has no such part.
        gauge: ``none``, or ``lattice``: :math:`d/dt \sum_i R_i^0 E_i`, for solids.
        lattice: equilibrium structure for that gauge, see `fit_lattice`.

    Returns:
        shape ``(3,)``, extensive, eV Å/fs.

    Raises:
        FluxError: unknown words, velocities that do not fit, a lattice that is missing or
            not that of the structure.

    Warns:
        GkfluxWarning: ``local`` was asked for where it is wrong.
    """
    v = checked_velocities(system, velocities)
    _check_words(formulation, gauge, lattice)
    sites = fit_lattice(system, lattice) if lattice is not None else None
    if formulation == "hardy":
        flux = hardy_flux(potential, system, v, lattice=sites)
    elif formulation == "unfolded":
        flux = unfolded_flux(potential, system, v, lattice=sites)
    else:
        both = fluxes(
            potential,
            system,
            v,
            formulation=formulation,
            lattice=sites,
            convective=convective,
        )
        return both.plain if both.lattice is None else both.lattice
    if convective and sites is None:
        energies = potential(system, compute=("energies",)).energies
        assert energies is not None
        flux = flux + convective_flux(potential, system, v, energies)
    return flux


def fluxes(
    potential: Potential,
    system: System,
    velocities: ArrayLike,
    *,
    formulation: str = "semilocal",
    lattice: ArrayLike | None = None,
    convective: bool = True,
) -> Fluxes:
    """Heat flux of a structure in both gauges; no lattice is fitted or checked.

    Args: potential: any. system: the structure. velocities: shape ``(n, 3)``, Å/fs.
        formulation: ``semilocal`` or ``local``. lattice: R^0, shape ``(n, 3)``, Å, as
        `fit_lattice` has left it at the start of the run. convective: add J_conv to the
        plain flux.

    Raises:
        FluxError: another formulation; velocities that do not fit.
    """
    if formulation not in FORMULATIONS[:2]:
        raise FluxError(
            f"fluxes computes {' or '.join(FORMULATIONS[:2])}, not {formulation!r}; "
            "heat_flux has the slow references"
        )
    if formulation == "local":
        warn_if_wrong(potential)
    powers = edge_powers(potential, system, velocities)
    power = local_power(powers) if formulation == "local" else powers.power
    plain = powers.flux(power=power)
    if convective:
        plain = plain + convective_flux(potential, system, velocities, powers.energies)
    if lattice is None:
        return Fluxes(plain, None)
    return Fluxes(plain, powers.flux(_site_vectors(system, lattice, powers), power))


def _site_vectors(system: System, lattice: ArrayLike, powers: EdgePowers) -> Array:
    sites = np.asarray(lattice, dtype=np.float64)
    return edge_vectors(sites, system.cell, powers.graph.edges)


def _check_words(formulation: str, gauge: str, lattice: object) -> None:
    if formulation not in FORMULATIONS:
        raise FluxError(
            f"formulation {formulation!r} is not known; known are {', '.join(FORMULATIONS)}"
        )
    if gauge not in GAUGES:
        raise FluxError(f"gauge {gauge!r} is not known; known are {', '.join(GAUGES)}")
    if gauge == "lattice" and lattice is None:
        raise FluxError(
            "gauge='lattice' needs the equilibrium structure: "
            "give lattice=, or gauge='none'"
        )
    if gauge == "none" and lattice is not None:
        raise FluxError("a lattice is given, but gauge='none': ask for gauge='lattice'")
