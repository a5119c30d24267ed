"""From an ensemble to its integrator, and the pace that a barostat takes."""

from collections.abc import Sequence

import numpy as np

from gkflux.dynamics.cell_rescaling import CellRescaling
from gkflux.dynamics.csvr import StochasticRescaling
from gkflux.dynamics.ensembles import Ensemble
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.state import Floats, degrees_of_freedom
from gkflux.dynamics.verlet import Integrator, VelocityVerlet
from gkflux.errors import FluxError
from gkflux.potentials.base import Batch
from gkflux.system import System
from stepson.units import GPA

__all__ = ["integrator", "static_compressibility"]

PRESSURE_RELAXATION = 1000.0
"""fs, where nothing else is asked for."""
STRAIN = 0.005
"""Of the volume, up and down, to measure a compressibility."""


def integrator(
    ensemble: Ensemble,
    masses: Floats,
    *,
    timestep: float,
    temperature: float,
    seed: int,
    stage: int,
    replicas: Sequence[int],
) -> Integrator:
    """Return what moves the atoms, for some replicas of a stage.

    Args:
        ensemble: checked; ``npt`` with its compressibility.
        masses: shape ``(n,)``, amu.
        timestep: fs.
        temperature: K, of the thermostat.
        seed: of the run.
        stage: its number.
        replicas: their numbers in the stage.
    """
    if ensemble.name == "nve":
        return VelocityVerlet(masses, timestep=timestep)
    barostat = None
    if ensemble.changes_cell:
        noise = CellRescaling.streams(seed, stage, replicas)
        barostat = _barostat(ensemble, masses, timestep, temperature, noise)
    if ensemble.friction is not None:
        return Langevin(
            masses,
            timestep=timestep,
            temperature=temperature,
            friction=ensemble.friction,
            streams=Langevin.streams(seed, stage, replicas),
            barostat=barostat,
        )
    assert ensemble.relaxation is not None
    return StochasticRescaling(
        masses,
        timestep=timestep,
        temperature=temperature,
        relaxation=ensemble.relaxation,
        freedom=degrees_of_freedom(len(masses), momentum_conserved=True),
        streams=StochasticRescaling.streams(seed, stage, replicas),
        barostat=barostat,
    )


def _barostat(
    ensemble: Ensemble,
    masses: Floats,
    timestep: float,
    temperature: float,
    streams: Sequence[np.uint64],
) -> CellRescaling:
    assert ensemble.pressure is not None
    assert ensemble.compressibility is not None
    return CellRescaling(
        masses,
        timestep=timestep,
        temperature=temperature,
        pressure=ensemble.pressure,
        compressibility=ensemble.compressibility,
        relaxation=ensemble.pressure_relaxation or PRESSURE_RELAXATION,
        centre_fixed=ensemble.conserves_momentum,
        streams=streams,
    )


def static_compressibility(batch: Batch, system: System) -> float:
    """Measure -dV/dp / V of a structure, atoms at fixed fractions of the cell.

    Good to a factor of two, which is all that the pace of a barostat needs; rounded to two
    digits, so that no last bit matters.

    Args:
        batch: the engine for this one system.
        system: periodic in all directions.

    Returns:
        1/GPa.

    Raises:
        FluxError: the structure does not resist compression.
    """
    assert system.cell is not None
    pressures = []
    for strain in (-STRAIN, STRAIN):
        scale = (1 + strain) ** (1 / 3)
        cell = system.cell * scale
        virial = batch.forces((system.positions * scale)[None], cell[None]).virial[0]
        pressures.append(-float(np.trace(virial)) / (3 * system.volume * (1 + strain)))
    modulus = GPA * (pressures[0] - pressures[1]) / (2 * STRAIN)
    if not modulus > 0:
        raise FluxError(
            f"the structure has a bulk modulus of {modulus:.3g} GPa at rest, so it sets no "
            "pace for its volume: give compressibility (1/GPa), for example 0.005 for an "
            "oxide, 0.5 for a liquid"
        )
    return float(f"{1 / modulus:.2g}")
