"""Molecular dynamics: integrators, replicas in one batch, restart bit for bit.

``run.run`` performs a whole configuration file; `MolecularDynamics` is the same engine for
scripts. A run has one rule: the *loop* decides when to commit, and every commit carries a
checkpoint, so that a killed run goes on as if nothing had happened (``recovery.py``).

================ ==================================================================
read             for
================ ==================================================================
config           the TOML file; config_errors: its messages
run, stage,      what happens, from the outside in; a batch is some replicas of a stage
batch, loop
cluster,         batches on many workers, one of them, and what runs there; board puts
placed_batch,    their progress together, workers starts processes
remote
engine           forces, integrator (verlet, langevin with noise), heat flux
recording        fields, cadences, frames that wait for their commit
epochs, files    the one writer thread; files of a batch
folder           whether what is there is this run
recovery         where a killed batch begins; checkpoint: what a state is
replicas         where replicas start
guards, drift,   what stops a run that went wrong
cell_guards,
balance
device_steps     blocks of steps on a GPU, with device_movers and device_noise: for scripts,
                 no run uses them
reporting        what a listener is told (progress); live_kappa
================ ==================================================================
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gkflux.dynamics.molecular_dynamics import MolecularDynamics as MolecularDynamics

__all__ = ["MolecularDynamics"]


def __getattr__(name: str) -> Any:
    """Import `MolecularDynamics`, and with it torch, when it is asked for."""
    if name != "MolecularDynamics":
        raise AttributeError(f"module 'gkflux.dynamics' has no attribute {name!r}")
    from gkflux.dynamics.molecular_dynamics import MolecularDynamics

    return MolecularDynamics
