"""One replica batch in motion: forces, integrator, heat flux, in the right order.

The heat flux belongs to the velocities of the full step: forces first, then the second half
of the kick, then the flux, from the features that the force call has kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gkflux.dynamics.config import StageConfig
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.state import (
    Floats,
    State,
    degrees_of_freedom,
    kinetic_energy,
    temperature,
)
from gkflux.dynamics.verlet import Integrator, VelocityVerlet
from gkflux.errors import FluxError
from gkflux.potentials.base import Batch, Evaluation
from gkflux.system import System

__all__ = ["Engine", "Flux", "Moves", "integrator_for"]


class Moves(Protocol):
    """What the dynamics needs of a potential: every `Potential`, and less."""

    @property
    def cutoff(self) -> float:
        """Å."""

    @property
    def layers(self) -> int:
        """Interaction layers."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Plain values that name the model."""

    def batch(self, systems: Sequence[System], *, skin: float | None = None) -> Batch:
        """Return the engine for replicas of the same atoms."""


@dataclass(frozen=True)
class Flux:
    """Which heat flux to compute: see ``gkflux/flux``.

    Attributes:
        formulation: ``semilocal`` or ``local``.
        gauge: ``none`` or ``lattice``.
        convective: whether sum E_i v_i is part of it (never in the lattice gauge).
        lattice: shape ``(n, 3)``, Å, next to the atoms, in the gauge ``lattice``.
    """

    formulation: str = "semilocal"
    gauge: str = "none"
    convective: bool = True
    lattice: Floats | None = None


def integrator_for(
    stage: StageConfig,
    masses: Floats,
    *,
    target: float,
    seed: int,
    index: int,
    replicas: Sequence[int],
) -> Integrator:
    """Return the integrator of a stage for some of its replicas."""
    if stage.ensemble == "nve" or stage.friction is None:
        return VelocityVerlet(masses, timestep=stage.timestep)
    return Langevin(
        masses,
        timestep=stage.timestep,
        temperature=target,
        friction=stage.friction,
        streams=Langevin.streams(seed, index, replicas),
    )


class Engine:
    """A batch of replicas, the forces on it, and what can be measured.

    Attributes:
        state: changed in place by `step`.
        masses: shape ``(n,)``, amu.
        freedom: g of the temperature.
    """

    def __init__(
        self,
        potential: Moves,
        system: System,
        state: State,
        integrator: Integrator,
        *,
        flux: Flux | None = None,
    ) -> None:
        """Prepare; `begin` computes the first forces."""
        self.state = state
        self.masses = system.masses
        self.freedom = degrees_of_freedom(
            system.n_atoms, momentum_conserved=integrator.conserves_momentum
        )
        self._volume = system.volume
        self._integrator = integrator
        self._flux = flux
        self._batch: Batch = potential.batch([system.moved(r) for r in state.positions])
        self._evaluation: Evaluation | None = None

    @property
    def evaluation(self) -> Evaluation:
        """Energies and forces at the present positions."""
        if self._evaluation is None:
            raise FluxError("no forces yet: begin() comes before anything else")
        return self._evaluation

    def begin(self) -> None:
        """Compute the forces at the present positions."""
        self._evaluation = self._batch.forces(self.state.positions)

    def step(self) -> None:
        """Advance the state by one timestep."""
        state = self.state
        self._integrator.first(state, self.evaluation.forces)
        evaluation = self._evaluation = self._batch.forces(state.positions)
        self._integrator.second(state, evaluation.forces)

    def measure(self, names: Sequence[str]) -> dict[str, Floats]:
        """Return these fields at the present step, each ``(replicas, ...)``."""
        state, evaluation = self.state, self.evaluation
        kinetic = kinetic_energy(state.velocities, self.masses)
        values = {
            "positions": state.positions,
            "velocities": state.velocities,
            "forces": evaluation.forces,
            "energy": evaluation.energy,
            "energy_kinetic": kinetic,
            "temperature": temperature(kinetic, self.freedom),
        }
        if "stress" in names:
            values["stress"] = evaluation.virial / self._volume
        if "heat_flux" in names:
            values["heat_flux"] = self.heat_flux()
        return values

    def heat_flux(self) -> Floats:
        """Return shape ``(replicas, 3)``: J at the present step, eV Å/fs."""
        flux = Flux() if self._flux is None else self._flux
        result = self._batch.heat_flux(
            self.state.velocities,
            formulation=flux.formulation,
            lattice=flux.lattice,
            convective=flux.convective,
        )
        return result.plain if result.lattice is None else result.lattice

    def temperature(self) -> Floats:
        """Return shape ``(replicas,)``, K."""
        return temperature(kinetic_energy(self.state.velocities, self.masses), self.freedom)

    def conserved(self) -> Floats:
        """Return shape ``(replicas,)``: the energy, less what thermostats gave, eV."""
        kinetic = kinetic_energy(self.state.velocities, self.masses)
        return np.asarray(self.evaluation.energy + kinetic - self.state.heat)
