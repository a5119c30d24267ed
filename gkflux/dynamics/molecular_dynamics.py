"""`MolecularDynamics`: the dynamics of runs, for one system, from a script.

Same integrators, same noise, same order of operations as in a run; no stages, replicas or
restarts. With a ``stepson`` writer every field that is due at a step is appended.
"""

from dataclasses import dataclass, replace
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from gkflux.dynamics.engine import Engine, Flux, Moves
from gkflux.dynamics.ensembles import Ensemble
from gkflux.dynamics.integrators import integrator, static_compressibility
from gkflux.dynamics.state import (
    Floats,
    State,
    draw_velocities,
    kinetic_energy,
    remove_momentum,
)
from gkflux.dynamics.verlet import Integrator
from gkflux.errors import FluxError
from gkflux.system import System
from stepson import Writer
from stepson.errors import SchemaError

__all__ = ["Instant", "MolecularDynamics"]

MEASURED = frozenset(
    {
        *("positions", "velocities", "forces", "stress", "heat_flux"),
        "mass_currents",
        *("energy", "energy_kinetic", "temperature", "volume", "pressure", "cell"),
    }
)


@dataclass(frozen=True)
class Instant:
    """One system at one step.

    Attributes:
        step: from 0.
        time: fs.
        positions: shape ``(n, 3)``, Å, unwrapped.
        velocities: shape ``(n, 3)``, Å/fs.
        forces: shape ``(n, 3)``, eV/Å.
        energy: potential, eV.
        energy_kinetic: eV.
        temperature: K.
        cell: shape ``(3, 3)``, Å; None for a cluster.
    """

    step: int
    time: float
    positions: Floats
    velocities: Floats
    forces: Floats
    energy: float
    energy_kinetic: float
    temperature: float
    cell: Floats | None


class MolecularDynamics:
    """Molecular dynamics of one system.

    Attributes:
        heat_flux: shape ``(3,)``, eV Å/fs, of the last step that was a multiple of
            ``heat_flux_every``; None before, or without.
    """

    def __init__(
        self,
        potential: Moves,
        system: System,
        *,
        velocities: ArrayLike | None = None,
        timestep: float,
        ensemble: Literal["nve", "langevin", "csvr", "npt"] = "nve",
        temperature: float | None = None,
        friction: float | None = None,
        relaxation: float | None = None,
        pressure: float | None = None,
        pressure_relaxation: float | None = None,
        compressibility: float | None = None,
        seed: int = 0,
        heat_flux_every: int | None = None,
        formulation: str = "semilocal",
        gauge: Literal["none", "lattice"] = "none",
        convective: bool = True,
        check_balance: bool = False,
        lattice: System | ArrayLike | None = None,
        writer: Writer | None = None,
    ) -> None:
        """Prepare; `run` computes.

        Args:
            potential: forces, and the flux.
            system: where to start.
            velocities: shape ``(n, 3)``, Å/fs; by default those of the system, or, where
                it has none, drawn at `temperature` as a run draws them. The total
                momentum is removed, but for Langevin's thermostat.
            timestep: fs; negative runs ``nve`` backwards.
            ensemble: ``nve``; with `temperature`, ``langevin`` (`friction`), ``csvr``
                (`relaxation`) or ``npt`` (`pressure`, and one of the two).
            temperature: K, of the thermostat and of velocities that are drawn.
            friction: 1/fs.
            relaxation: fs, of the kinetic energy.
            pressure: GPa.
            pressure_relaxation: fs, of the volume; None: 1000.
            compressibility: 1/GPa, the pace of the volume; None: that of the system at
                rest.
            seed: of the noise and of velocities that are drawn.
            heat_flux_every: steps between two heat fluxes; None: only those that the
                writer needs.
            formulation: ``semilocal`` (exact) or ``local``.
            gauge: ``lattice`` needs `lattice`.
            convective: add sum E_i v_i in the gauge ``none``.
            check_balance: check the power balance of some samples (``dynamics/balance``).
            lattice: equilibrium positions of the same atoms in the same cell.
            writer: gets every field that is due, from step 0 on.

        Raises:
            FluxError: no velocities, no lattice, a thermostat without its numbers, a
                number or a name that means nothing.
            SchemaError: the writer wants a field that is not measured here.
        """
        _check_numbers(timestep, temperature, heat_flux_every)
        _check_flux(formulation, gauge)
        v = _start_velocities(system, velocities, temperature, seed)
        asked = Ensemble(
            ensemble,
            friction=friction,
            relaxation=relaxation,
            pressure=pressure,
            compressibility=compressibility,
            pressure_relaxation=pressure_relaxation,
        )
        moves = _integrator(potential, system, asked, timestep, temperature, seed)
        if moves.conserves_momentum:
            remove_momentum(v[None], system.masses)
        if asked.changes_cell and gauge == "lattice":
            raise FluxError("gauge 'lattice' has no meaning while the cell changes (npt)")
        sites = _sites(system, gauge, lattice)
        own = convective and gauge == "none"
        flux = Flux(formulation, gauge, own, sites, check_balance)
        self.system, self.heat_flux = system, None
        self._timestep = timestep
        self._flux_every, self._writer = heat_flux_every, _checked(writer, system)
        state = State.at_rest(system.positions[None], v[None])
        self._engine = Engine(potential, system, state, moves, flux=flux)
        self._begun = False

    heat_flux: Floats | None

    def run(self, steps: int) -> Self:
        """Compute so many steps.

        Raises:
            UnstableError: a coordinate is not finite, an atom flew away, or the cell did.
            BalanceError: `check_balance` was asked for, and the flux is wrong.
        """
        self._begin()
        for _ in range(steps):
            self._engine.step()
            self._measure()
        return self

    def _begin(self) -> None:
        if not self._begun:
            self._engine.begin()
            self._measure()
            self._begun = True

    def _measure(self) -> None:
        step, writer = self._engine.state.step, self._writer
        due: list[str] = []
        if writer is not None:
            due = [name for name, field in writer.fields.items() if field.due(step)]
        wanted = self._flux_every is not None and step % self._flux_every == 0
        if not due and not wanted:
            return
        asked = {*due, "heat_flux"} if wanted else set(due)
        values = self._engine.measure(sorted(asked))
        if "heat_flux" in asked:
            self.heat_flux = values["heat_flux"][0].copy()
        if writer is not None and due:
            writer.append(step=step, **{name: values[name][0] for name in due})

    @property
    def state(self) -> Instant:
        """The system now: arrays are copies."""
        self._begin()
        engine = self._engine
        state, evaluation = engine.state, engine.evaluation
        return Instant(
            step=state.step,
            time=state.step * self._timestep,
            positions=state.positions[0].copy(),
            velocities=state.velocities[0].copy(),
            forces=evaluation.forces[0].copy(),
            energy=float(evaluation.energy[0]),
            energy_kinetic=float(kinetic_energy(state.velocities, engine.masses)[0]),
            temperature=float(engine.temperature()[0]),
            cell=None if state.cells is None else state.cells[0].copy(),
        )

    def __repr__(self) -> str:
        return f"<MolecularDynamics {self.system!r}: step {self._engine.state.step}>"


def _check_numbers(timestep: Any, temperature: Any, heat_flux_every: Any) -> None:
    """Whatever comes from a script: refused here, and not as nan at some step."""
    if not (isinstance(timestep, Real) and isfinite(timestep) and timestep != 0):
        raise FluxError(f"timestep = {timestep!r} is no time in fs")
    warm = isinstance(temperature, Real) and 0 <= float(temperature) < inf
    if temperature is not None and not warm:
        raise FluxError(f"temperature = {temperature!r} is no temperature in K")
    some = isinstance(heat_flux_every, Integral) and int(heat_flux_every) >= 1
    if heat_flux_every is not None and not some:
        raise FluxError(f"heat_flux_every = {heat_flux_every!r} is no number of steps")


def _check_flux(formulation: str, gauge: str) -> None:
    if formulation not in ("semilocal", "local"):
        raise FluxError(f"formulation {formulation!r} is not known: semilocal or local")
    if gauge not in ("none", "lattice"):
        raise FluxError(f"gauge {gauge!r} is not known: none or lattice")


def _start_velocities(
    system: System, velocities: ArrayLike | None, temperature: float | None, seed: int
) -> Floats:
    start = system.velocities if velocities is None else velocities
    if start is None:
        if temperature is None:
            raise FluxError(
                "the system has no velocities; give velocities=, in Å/fs, or temperature="
            )
        drawn = draw_velocities(
            system.masses, temperature, seed=seed, stage=0, replicas=[0]
        )
        return np.asarray(drawn[0])
    # the checks are those of a system; a copy, because the momentum is removed from it
    return np.array(system.moved(system.positions, velocities=start).velocities)


def _integrator(
    potential: Moves,
    system: System,
    asked: Ensemble,
    timestep: float,
    temperature: float | None,
    seed: int,
) -> Integrator:
    if asked.name != "nve" and temperature is None:
        raise FluxError(f"ensemble {asked.name!r} needs temperature= (K)")
    try:
        asked.check()
    except ValueError as error:
        raise FluxError(str(error)) from None
    if asked.changes_cell and not system.pbc.all():
        raise FluxError("ensemble 'npt' needs a system that is periodic in all directions")
    if asked.changes_cell and asked.compressibility is None:
        pace = static_compressibility(potential.batch([system]), system)
        asked = replace(asked, compressibility=pace)
    return integrator(
        asked,
        system.masses,
        timestep=timestep,
        temperature=temperature or 0.0,
        seed=seed,
        stage=0,
        replicas=[0],
    )


def _sites(system: System, gauge: str, lattice: System | ArrayLike | None) -> Floats | None:
    if gauge == "none":
        return None
    if lattice is None:
        raise FluxError("gauge 'lattice' needs lattice=, the equilibrium positions")
    from gkflux.flux.gauge import fit_lattice

    return np.asarray(fit_lattice(system, lattice))


def _checked(writer: Writer | None, system: System) -> Writer | None:
    asked = set() if writer is None else {*writer.fields}
    unknown = asked - MEASURED
    if unknown:
        raise SchemaError(
            f"the writer wants {', '.join(sorted(unknown))}; the dynamics measures "
            f"{', '.join(sorted(MEASURED))}"
        )
    lacking = asked & {"stress", "volume", "pressure", "cell"}
    if lacking and np.isnan(system.volume):
        raise SchemaError(
            f"the writer wants {', '.join(sorted(lacking))}; without a cell there is no "
            "volume"
        )
    return writer
