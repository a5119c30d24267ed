"""The exact heat flux of message-passing potentials, without unfolding the cell.

=============  ==========================================================================
module         what
=============  ==========================================================================
api            `heat_flux`: any formulation and gauge, for one structure
semilocal      edge powers of any potential: exact, one reverse and one forward pass
local          the virial form: exact for one layer, and why it is wrong for more
convective     the part that moving atoms carry
exchange       heat between groups of atoms, and so through a surface
gauge          the reference lattice: fitting it, and noticing atoms that leave it
virials        per-atom heat-flux virials: the flux without velocities
references     hardy and unfolded: slow, obvious, on an explicit cluster
=============  ==========================================================================
"""

from gkflux.flux.api import FORMULATIONS, GAUGES, Fluxes, fluxes, heat_flux
from gkflux.flux.convective import convective_flux
from gkflux.flux.exchange import heat_between
from gkflux.flux.gauge import displacements, fit_lattice, hop, hop_limits
from gkflux.flux.local import local_power
from gkflux.flux.references import hardy_flux, hardy_virials, unfolded_flux
from gkflux.flux.semilocal import EdgePowers, edge_powers
from gkflux.flux.virials import heat_flux_virials

__all__ = [
    "FORMULATIONS",
    "GAUGES",
    "EdgePowers",
    "Fluxes",
    "convective_flux",
    "displacements",
    "edge_powers",
    "fit_lattice",
    "fluxes",
    "hardy_flux",
    "hardy_virials",
    "heat_between",
    "heat_flux",
    "heat_flux_virials",
    "hop",
    "hop_limits",
    "local_power",
    "unfolded_flux",
]
