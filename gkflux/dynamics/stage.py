"""One stage of a run: what it is, and whether its files are complete.

How its replicas are computed, all of them here or some on each of many machines, is the
business of ``batch.py`` and ``cluster.py``.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import stepson
from gkflux.dynamics.batch import BatchRun
from gkflux.dynamics.cell_rescaling import cube_root
from gkflux.dynamics.config import StageConfig
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.engine import Flux
from gkflux.dynamics.folder import check_stage
from gkflux.dynamics.mean_volume import mean_volume
from gkflux.dynamics.provenance import settings
from gkflux.dynamics.recording import stage_fields
from gkflux.dynamics.replicas import files_of
from gkflux.dynamics.reporting import Header, Reporter
from gkflux.dynamics.setup import stage_flux
from gkflux.dynamics.state import Floats, degrees_of_freedom
from gkflux.system import System
from stepson import Writer
from stepson.lock import forget_dead

__all__ = ["StageRun"]


class StageRun:
    """One stage: its settings, its files."""

    def __init__(self, context: RunContext, index: int) -> None:
        """Work out what the stage is; nothing is opened or computed."""
        self.context, self.index = context, index
        run, ingredients = context.config, context.ingredients
        self.config: StageConfig = run.stage[index]
        self.files = files_of(context.folder, self.config)
        self.system = ingredients.system
        self.target = self.config.temperature or run.system.temperature
        self.flux = stage_flux(run, self.config, ingredients)
        self.settings = settings(run, index, self.system, ingredients.provenance, self.flux)

    @property
    def everyone(self) -> range:
        """The numbers of all replicas."""
        return range(self.config.replicas)

    def reporter(self, numbers: Sequence[int]) -> Reporter:
        """Return what tells the listener of the run about some replicas."""
        reporter = Reporter(self.header(numbers), self.context.listener)
        reporter.messages = self.context.messages
        return reporter

    def header(self, numbers: Sequence[int]) -> Header:
        """Return what `Progress` says about some replicas all the time."""
        config, system = self.config, self.system
        return Header(
            stage=config.name,
            stage_index=self.index,
            stage_count=len(self.context.config.stage),
            ensemble=config.told.label,
            steps=config.steps,
            timestep=config.timestep,
            replicas=len(numbers),
            n_atoms=system.n_atoms,
            system=f"{system.formula}, {system.n_atoms} atoms",
            potential=self.context.ingredients.label,
            target=self.target,
            numbers=tuple(numbers),
        )

    def check(self) -> None:
        """Refuse to go on with what is not this run.

        Raises:
            ChangedRunError: the files are those of another run.
            FluxError: there are files of another number of replicas, or unreadable ones.
        """
        check_stage(self.context.folder, self.context.config, self.index, self.settings)

    def complete(self) -> bool:
        """Whether every file holds the last step; those left open by a crash are sealed."""
        if self.unfinished():
            return False
        for path in self.files:
            with stepson.open(path) as trajectory:
                sealed = trajectory.sealed
            if not sealed:
                stepson.open(path, "a").close()
            forget_dead(path)
        return True

    def unfinished(self) -> list[int]:
        """Return the numbers of the replicas whose files do not hold the last step."""
        found = []
        for number, path in enumerate(self.files):
            if not path.exists():
                found.append(number)
                continue
            with stepson.open(path) as trajectory:
                if self.config.steps not in trajectory.checkpoint_steps:
                    found.append(number)
        return found

    def saved_step(self) -> int:
        """Return the last step of which every file holds the state, 0 without any."""
        found = []
        for path in self.files:
            if not path.exists():
                return 0
            with stepson.open(path) as trajectory:
                found.append(max(trajectory.checkpoint_steps, default=0))
        return min(found)

    def compute(self, stop: threading.Event) -> tuple[bool, int]:
        """Run to the end, or to a stop, all replicas as one batch.

        Returns:
            Whether the stage is finished, and the last step that all files hold.

        Raises:
            FluxError: a guard stopped it; the good frames are kept.
            WriterError: a file is locked, or cannot be written.
        """
        self.say_beforehand()
        return BatchRun(self, self.everyone).compute(stop)

    def say_beforehand(self) -> None:
        """Say what is odd about the stage before it begins."""
        config, reporter = self.config, self.reporter(self.everyone)
        for cadence in config.uneven():
            reporter.say(
                f"stage {config.name}: steps = {config.steps} is no multiple of "
                f"{cadence}; the last state is in the checkpoint, not in a frame",
                "starting",
            )
        flux, layers = config.heat_flux, self.context.ingredients.potential.layers
        if flux is not None and flux.formulation == "local" and layers > 1:
            reporter.say(
                f"stage {config.name}: formulation = 'local' leaves out the power "
                f"that messages of {layers} interaction layers carry; kappa will be wrong",
                "starting",
            )

    def tell_volume(self, writers: Sequence[Writer]) -> None:
        """At the end of a stage at constant pressure: its mean volume, said and kept.

        Args:
            writers: of all files.
        """
        if not self.config.told.changes_cell:
            return
        mean = mean_volume(self.files, self.config.steps)
        for writer in writers:
            writer.note({"mean_volume": mean.facts})
        scale = cube_root(mean.volume / self.system.volume)
        self.reporter(self.everyone).say(
            f"stage {self.config.name}: mean volume {mean}, lattice vectors {scale:.5f} "
            "times those of the structure"
        )

    def fields(self) -> tuple[stepson.Field, ...]:
        """Return the fields of its files."""
        flux = self.flux
        return stage_fields(
            self.config,
            gauge="none" if flux is None else flux.gauge,
            convective=flux is not None and flux.convective,
            species=len(np.unique(self.system.numbers)),
        )

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the temperature."""
        conserved = self.config.told.conserves_momentum
        return degrees_of_freedom(self.system.n_atoms, momentum_conserved=conserved)

    def within(self, cell: Floats | None) -> tuple[System, Flux | None]:
        """Return structure and flux, with its lattice, as they are in another cell.

        Args:
            cell: shape ``(3, 3)``, Å, of the stage; None: that of the structure.
        """
        system, flux = self.system, self.flux
        if cell is None or system.cell is None or np.array_equal(cell, system.cell):
            return system, flux
        stretch = np.linalg.inv(system.cell) @ cell
        moved = system.moved(system.positions @ stretch, cell)
        if flux is not None and flux.lattice is not None:
            flux = replace(flux, lattice=flux.lattice @ stretch)
        return moved, flux
