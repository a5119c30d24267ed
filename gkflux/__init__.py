"""Molecular dynamics with SchNet, the exact heat flux on the fly, and Green-Kubo.

The public names live in this flat namespace and are imported when first used: ``import
gkflux`` costs nothing, torch comes with whatever needs it. Conventions: its ``README.md``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gkflux.conductivity import GreenKubo as GreenKubo
    from gkflux.conductivity import kappa as kappa
    from gkflux.dynamics import MolecularDynamics as MolecularDynamics
    from gkflux.errors import FluxError as FluxError
    from gkflux.errors import GkfluxWarning as GkfluxWarning
    from gkflux.flux import heat_between as heat_between
    from gkflux.flux import heat_flux as heat_flux
    from gkflux.flux import heat_flux_virials as heat_flux_virials
    from gkflux.neighbors import neighbor_list as neighbor_list
    from gkflux.potentials.load import convert_model as convert_model
    from gkflux.potentials.load import load_potential as load_potential
    from gkflux.potentials.torch_potential import TorchPotential as TorchPotential
    from gkflux.potentials.torch_potential import check_gathers as check_gathers
    from gkflux.recompute import recompute_flux as recompute_flux
    from gkflux.system import System as System

_HOMES = {
    "FluxError": "gkflux.errors",
    "GkfluxWarning": "gkflux.errors",
    "GreenKubo": "gkflux.conductivity",
    "MolecularDynamics": "gkflux.dynamics",
    "System": "gkflux.system",
    "TorchPotential": "gkflux.potentials.torch_potential",
    "check_gathers": "gkflux.potentials.torch_potential",
    "convert_model": "gkflux.potentials.load",
    "heat_between": "gkflux.flux",
    "heat_flux": "gkflux.flux",
    "heat_flux_virials": "gkflux.flux",
    "kappa": "gkflux.conductivity",
    "load_potential": "gkflux.potentials.load",
    "neighbor_list": "gkflux.neighbors",
    "recompute_flux": "gkflux.recompute",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gkflux' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
