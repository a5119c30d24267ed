"""One replica batch in motion: forces, integrator, heat flux, in the right order.

The heat flux belongs to the velocities of the full step: forces first, then the second half
of the kick, then the flux, from the features that the force call has kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gkflux.dynamics.balance import BalanceCheck
from gkflux.dynamics.cell_guards import CellError, check_cells
from gkflux.dynamics.cell_rescaling import CellStepError
from gkflux.dynamics.guards import check_motion
from gkflux.dynamics.state import (
    Floats,
    State,
    degrees_of_freedom,
    kinetic_energy,
    temperature,
    volumes,
)
from gkflux.dynamics.verlet import Integrator
from gkflux.errors import FluxError
from gkflux.potentials.base import Batch, Evaluation
from gkflux.system import System

__all__ = ["Engine", "Flux", "Moves"]

OF_THE_FLUX = frozenset({"heat_flux", "heat_flux_plain"})
OF_THE_CELL = frozenset({"cell", "volume", "pressure", "stress"})


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
        check_balance: whether to check the power balance of some samples.
        plain: whether the flux in gauge ``none`` is wanted, too, with sum E_i v_i.
    """

    formulation: str = "semilocal"
    gauge: str = "none"
    convective: bool = True
    lattice: Floats | None = None
    check_balance: bool = False
    plain: bool = False


class Engine:
    """A batch of replicas, the forces on it, and what can be measured.

    Attributes:
        state: changed in place by `step`.
        masses: shape ``(n,)``, amu.
        freedom: g of the temperature.
        numbers: of the replicas in their stage, for messages.
    """

    def __init__(
        self,
        potential: Moves,
        system: System,
        state: State,
        integrator: Integrator,
        *,
        flux: Flux | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Prepare; `begin` computes the first forces.

        Args:
            potential: forces, and the flux.
            system: species, masses, periodic directions; its cell where the state has none,
                its volume as the one from which no cell may be far.
            state: changed in place.
            integrator: what moves it.
            flux: which heat flux, where one is asked for.
            numbers: of the replicas in their stage; by default from 0.
        """
        self.state = state
        self.masses = system.masses
        kinds = np.unique(system.numbers)[:, None]
        self._species = np.where(system.numbers == kinds, system.masses, 0.0)
        self.freedom = degrees_of_freedom(
            system.n_atoms, momentum_conserved=integrator.conserves_momentum
        )
        self.numbers = range(state.replicas) if numbers is None else numbers
        if state.cells is None and system.cell is not None:
            state.cells = np.stack([system.cell] * state.replicas)
        self._reference = system.volume
        self._longest = potential.cutoff / 2
        self._integrator = integrator
        self._flux = flux
        systems = [
            system.moved(r, None if state.cells is None else state.cells[k])
            for k, r in enumerate(state.positions)
        ]
        self._batch: Batch = potential.batch(systems)
        self._evaluation: Evaluation | None = None
        self._balance: BalanceCheck | None = None
        if flux is not None and flux.check_balance:
            self._balance = BalanceCheck(potential, self._batch, system, self.numbers)

    @property
    def evaluation(self) -> Evaluation:
        """Energies and forces at the present positions."""
        if self._evaluation is None:
            raise FluxError("no forces yet: begin() comes before anything else")
        return self._evaluation

    def begin(self) -> None:
        """Compute the forces at the present positions."""
        self._evaluation = self._forces()

    def _forces(self) -> Evaluation:
        state = self.state
        if self._integrator.changes_cell:
            return self._batch.forces(state.positions, state.cells)
        return self._batch.forces(state.positions)

    def step(self) -> None:
        """Advance the state by one timestep.

        Raises:
            UnstableError: a coordinate is not finite, an atom flew away, or the cell did.
        """
        self._move()
        evaluation = self._evaluation = self._forces()
        self._integrator.second(self.state, evaluation)
        self._check_motion(self.state.step)

    def _move(self) -> None:
        """Take the first half, and look at it before any list is made for it."""
        state, step = self.state, self.state.step + 1
        try:
            self._integrator.first(state, self.evaluation)
        except CellStepError as error:
            raise CellError(
                str(error),
                step=step,
                replica=self.numbers[error.replica],
                share=error.change,
            ) from None
        self._check_motion(step)
        if self._integrator.changes_cell:
            check_cells(state, step, self._reference, self.numbers)

    def _check_motion(self, step: int) -> None:
        check_motion(
            self.state, self._longest, self._integrator.timestep, self.numbers, step
        )

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
        if state.cells is not None and OF_THE_CELL & {*names}:
            volume = volumes(state.cells)
            values["cell"], values["volume"] = state.cells, volume
            values["stress"] = evaluation.virial / volume[:, None, None]
            values["pressure"] = self._pressure(kinetic, volume)
        if "mass_currents" in names:
            values["mass_currents"] = self._species @ state.velocities
        if OF_THE_FLUX & {*names}:
            values["heat_flux"], values["heat_flux_plain"] = self._fluxes()
        return values

    def _pressure(self, kinetic: Floats, volume: Floats) -> Floats:
        """Kinetic and potential part, eV/Å³; the centre of mass counts at its mean."""
        centre = 3 * len(self.masses) - self.freedom
        whole = kinetic * (1.0 + centre / self.freedom)
        trace = np.trace(self.evaluation.virial, axis1=1, axis2=2)
        return np.asarray((2.0 * whole - trace) / (3.0 * volume))

    def _fluxes(self) -> tuple[Floats, Floats]:
        """Return J in the gauge of the run, and in none; ``(replicas, 3)``, eV Å/fs."""
        flux = Flux() if self._flux is None else self._flux
        result = self._batch.heat_flux(
            self.state.velocities,
            formulation=flux.formulation,
            lattice=flux.lattice,
            convective=flux.convective or flux.plain,
        )
        if self._balance is not None:
            self._balance.look(self.state, self.evaluation.forces)
        return result.plain if result.lattice is None else result.lattice, result.plain

    def temperature(self) -> Floats:
        """Return shape ``(replicas,)``, K."""
        return temperature(kinetic_energy(self.state.velocities, self.masses), self.freedom)

    def volume(self) -> Floats | None:
        """Return shape ``(replicas,)``, Å³, where it fluctuates; else None."""
        cells = self.state.cells
        if cells is None or not self._integrator.changes_cell:
            return None
        return volumes(cells)

    def steady(self) -> Floats:
        """Return shape ``(replicas,)``: drifts when a run does, else nearly stands, eV.

        The conserved energy with the integrator's own slow fluctuations taken out.
        """
        slow = self._integrator.slow_part(self.evaluation.forces)
        return np.asarray(self.conserved() + slow)

    def conserved(self) -> Floats:
        """Return shape ``(replicas,)``: the energy, less what thermostats gave, eV."""
        kinetic = kinetic_energy(self.state.velocities, self.masses)
        return np.asarray(self.evaluation.energy + kinetic - self.state.heat)
