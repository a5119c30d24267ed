"""What the stages of a run share, and what is made from it: engines, first starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gkflux.dynamics.config import RunConfig
from gkflux.dynamics.engine import Engine, Flux
from gkflux.dynamics.ensembles import Ensemble
from gkflux.dynamics.integrators import integrator, static_compressibility
from gkflux.dynamics.progress import Listener
from gkflux.dynamics.replicas import Start
from gkflux.dynamics.setup import Ingredients
from gkflux.dynamics.state import State, draw_velocities, remove_momentum

__all__ = ["RunContext", "first_starts", "make_engine"]


@dataclass
class RunContext:
    """What the stages of a run share, and what they leave behind.

    Attributes:
        config: the whole run.
        folder: of the output.
        ingredients: atoms, potential, lattice.
        listener: see `Progress`.
        messages: every line that was sent.
        resumed: the step at which a stage was taken up, by name.
        computed: steps.
        seconds: wall time in the loops.
    """

    config: RunConfig
    folder: Path
    ingredients: Ingredients
    listener: Listener | None
    messages: list[str] = field(default_factory=list)
    resumed: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    seconds: float = 0.0
    _compressibility: float | None = None

    def ensemble(self, index: int) -> Ensemble:
        """Return the ensemble of a stage, with the pace of its barostat.

        Raises:
            FluxError: the structure at rest sets no pace.
        """
        told, ingredients = self.config.stage[index].told, self.ingredients
        if not told.changes_cell or told.compressibility is not None:
            return told
        if self._compressibility is None:
            self._compressibility = static_compressibility(
                ingredients.potential.batch([ingredients.system]), ingredients.system
            )
        return replace(told, compressibility=self._compressibility)


def make_engine(
    context: RunContext,
    index: int,
    state: State,
    replicas: Sequence[int],
    *,
    flux: Flux | None = None,
) -> Engine:
    """Return an engine for some replicas of a stage; `state` is changed in place."""
    run, ingredients = context.config, context.ingredients
    stage = run.stage[index]
    moves = integrator(
        context.ensemble(index),
        ingredients.system.masses,
        timestep=stage.timestep,
        temperature=stage.temperature or run.system.temperature,
        seed=run.system.seed,
        stage=index,
        replicas=replicas,
    )
    return Engine(
        ingredients.potential, ingredients.system, state, moves, flux=flux, numbers=replicas
    )


def first_starts(context: RunContext) -> list[Start]:
    """Return where the replicas of the first stage start."""
    run, system, stage = context.config, context.ingredients.system, context.config.stage[0]
    if run.system.velocities == "draw":
        velocities = draw_velocities(
            system.masses,
            stage.temperature or run.system.temperature,
            seed=run.system.seed,
            stage=0,
            replicas=range(stage.replicas),
        )
    else:
        velocities = np.stack([np.array(system.velocities)] * stage.replicas)
        if stage.told.conserves_momentum:
            remove_momentum(velocities, system.masses)
    return [Start(system.positions, v, {}, system.cell) for v in velocities]
