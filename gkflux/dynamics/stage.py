"""One stage of a run: are its files complete? If not, put all together and compute.

The order at the start matters for crashes. The locks of all files that exist are taken
before any is read; then the missing ones are created, each holding the start state as its
first checkpoint; then the loop begins. Whatever is killed in between is found again in the
same
way: a stage goes on from what its files hold, and from its start where they hold nothing.
"""

import threading
import time
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np

import stepson
from gkflux.dynamics.checkpoint import batch_state, pack
from gkflux.dynamics.config import StageConfig
from gkflux.dynamics.context import RunContext, first_starts, make_engine
from gkflux.dynamics.engine import Engine
from gkflux.dynamics.files import create_file, note_continuation, open_file
from gkflux.dynamics.folder import check_stage
from gkflux.dynamics.guards import Drift, Hops
from gkflux.dynamics.live_kappa import LiveKappa
from gkflux.dynamics.loop import Pace, StageLoop
from gkflux.dynamics.provenance import (
    environment,
    settings,
    stage_metadata,
)
from gkflux.dynamics.recording import Recorder, stage_fields
from gkflux.dynamics.recovery import Held, Restart, find_restart
from gkflux.dynamics.replicas import Start, Stopped, chain_starts, files_of, start_steps
from gkflux.dynamics.reporting import Header, Reporter
from gkflux.dynamics.setup import stage_flux
from gkflux.dynamics.state import (
    State,
    degrees_of_freedom,
)
from gkflux.errors import FluxError
from stepson import Writer
from stepson.lock import forget_dead

__all__ = ["StageRun"]

GLANCE = 1 << 17
"""Flux samples that are read again after a restart, for the glance at kappa."""


class StageRun:
    """One stage: its files, its start, its loop."""

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
        self.reporter = Reporter(self._header(), context.listener)
        self.reporter.messages = context.messages

    def _header(self) -> Header:
        config, system = self.config, self.system
        return Header(
            stage=config.name,
            stage_index=self.index,
            stage_count=len(self.context.config.stage),
            ensemble=config.ensemble,
            steps=config.steps,
            timestep=config.timestep,
            replicas=config.replicas,
            n_atoms=system.n_atoms,
            system=f"{system.formula}, {system.n_atoms} atoms",
            potential=self.context.ingredients.label,
            target=self.target,
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
        existing = [path for path in self.files if path.exists()]
        done, unsealed = len(existing) == len(self.files), []
        for path in existing:
            with stepson.open(path) as trajectory:
                done &= self.config.steps in trajectory.checkpoint_steps
                if not trajectory.sealed:
                    unsealed.append(path)
        for path in unsealed if done else ():
            stepson.open(path, "a").close()
        for path in self.files if done else ():
            forget_dead(path)
        return done

    def compute(self, stop: threading.Event) -> tuple[bool, int]:
        """Run to the end, or to a stop.

        Returns:
            Whether the stage is finished, and the last step that all files hold.

        Raises:
            FluxError: a guard stopped it; the good frames are kept.
            WriterError: a file is locked, or cannot be written.
        """
        for cadence in self.config.uneven():
            self.reporter.say(
                f"stage {self.config.name}: steps = {self.config.steps} is no multiple of "
                f"{cadence}; the last state is in the checkpoint, not in a frame",
                "starting",
            )
        self._say_formulation()
        self.reporter.send("starting")
        with ExitStack() as stack:
            try:
                restart, engine = self._open(stack, stop)
            except Stopped:
                self.reporter.send("stopped")
                return False, 0
            finished, step = self._loop(engine, restart, stop)
            if finished:
                for held in restart.held:
                    held.writer.close()
        self._check_place()
        self.reporter.send("finished" if finished else "stopped", step=step)
        return finished, step

    def _check_place(self) -> None:
        """A folder may be moved while its files are written: they go with it."""
        gone = [path for path in self.files if not path.exists()]
        if gone:
            raise FluxError(
                f"{gone[0]} is no longer there, the folder was moved or deleted during the "
                "run; what was saved is where it is now: go on there with -o"
            )

    def _say_formulation(self) -> None:
        """The virial form is computed when it is named; what is wrong with it is said."""
        flux, layers = self.config.heat_flux, self.context.ingredients.potential.layers
        if flux is not None and flux.formulation == "local" and layers > 1:
            self.reporter.say(
                f"stage {self.config.name}: formulation = 'local' leaves out the power "
                f"that messages of {layers} interaction layers carry; kappa will be wrong",
                "starting",
            )

    def _loop(
        self, engine: Engine, restart: Restart, stop: threading.Event
    ) -> tuple[bool, int]:
        drift = self._drift()
        if restart.states is not None:
            drift.restore(np.stack([state["drift"] for state in restart.states]))
        recorder = Recorder(self._fields(), self.config.replicas, self.system.n_atoms)
        hops = self._hops()
        if hops is not None and restart.states is not None:
            hops.first = [state.get("hop") for state in restart.states]
        loop = StageLoop(
            engine, recorder, restart, drift, self.reporter, self._pace(), stop, hops
        )
        first, began = engine.state.step, time.monotonic()
        try:
            return loop.run(), loop.committed_step
        finally:
            self.context.seconds += time.monotonic() - began
            self.context.computed += engine.state.step - first

    def _drift(self) -> Drift:
        return Drift(
            replicas=self.config.replicas,
            n_atoms=self.system.n_atoms,
            timestep=self.config.timestep,
            steps=self.config.steps,
            target=self.target,
        )

    def _hops(self) -> Hops | None:
        lattice = None if self.flux is None else self.flux.lattice
        if lattice is None:
            return None
        return Hops(self.system, lattice, self.config.replicas)

    def _pace(self) -> Pace:
        run, stages = self.context.config, self.context.config.stage
        after = stages[self.index + 1 : self.index + 2]
        return Pace(
            name=self.config.name,
            steps=self.config.steps,
            timestep=self.config.timestep,
            longest=self.context.ingredients.potential.cutoff / 2,
            commit_seconds=run.output.commit_seconds,
            commit_steps=run.output.commit_steps,
            commit_at={step for stage in after for step in start_steps(stage, self.config)},
        )

    def _fields(self) -> tuple[stepson.Field, ...]:
        flux = self.flux
        return stage_fields(
            self.config,
            gauge="none" if flux is None else flux.gauge,
            convective=flux is not None and flux.convective,
        )

    def _open(self, stack: ExitStack, stop: threading.Event) -> tuple[Restart, Engine]:
        """Lock and read what exists, create what does not; return where to begin."""
        held: list[Held | None] = []
        for path in self.files:
            writer = open_file(path) if path.exists() else None
            if writer is not None:
                stack.callback(writer.abandon)
                note_continuation(
                    writer, self._environment, self.config.steps, self.reporter
                )
            held.append(None if writer is None else Held.of(writer))
        restart = find_restart(held)
        starts = self._starts(stop) if restart.states is None else []
        if restart.states is not None:
            state = batch_state(restart.states)
        else:
            state = State.at_rest(
                np.stack([start.positions for start in starts]),
                np.stack([start.velocities for start in starts]),
            )
        everyone = range(self.config.replicas)
        engine = make_engine(self.context, self.index, state, everyone, flux=self.flux)
        created = [
            Held.of(self._create(stack, k, state, starts[k])) if each is None else each
            for k, each in enumerate(held)
        ]
        restart.held = created
        self._tell_restart(restart)
        return restart, engine

    def _tell_restart(self, restart: Restart) -> None:
        reporter, name = self.reporter, self.config.name
        for message in restart.messages:
            reporter.say(message, "starting")
        reporter.bytes_written = sum(held.writer.bytes_written for held in restart.held)
        if restart.states is not None and restart.until > 0:
            reporter.resumed_from = reporter.committed = restart.step
            self.context.resumed[name] = restart.step
            reporter.send("starting", step=restart.step)
        self._prepare_kappa(restart)

    def _prepare_kappa(self, restart: Restart) -> None:
        """Feed the glance at kappa with the flux that the files hold already."""
        flux = self.config.heat_flux
        if flux is None or self.config.ensemble != "nve":
            return
        kappa = self.reporter.kappa = LiveKappa(
            replicas=self.config.replicas,
            timestep=flux.every * self.config.timestep,
            volume=self.system.volume,
            temperature=self.target,
        )
        if restart.states is not None and restart.step > 0:
            end = restart.step // flux.every + 1
            some = slice(max(0, end - GLANCE), end)
            columns = [h.writer.trajectory()["heat_flux"][some] for h in restart.held]
            kappa.begin(np.stack(columns))

    @cached_property
    def _environment(self) -> dict[str, Any]:
        return environment(self.context.ingredients.device)

    def _create(self, stack: ExitStack, replica: int, state: State, start: Start) -> Writer:
        """Create the file of a replica, with the start state as its first checkpoint."""
        about = stage_metadata(
            self.context.config,
            self.index,
            self.system,
            self.context.ingredients.provenance,
            self.flux,
            freedom=self._freedom,
            target=self.target,
        )
        about |= {"replica": replica, "start": start.source, **self._environment}
        writer = create_file(
            self.files[replica],
            self._fields(),
            self.system,
            timestep=self.config.timestep,
            metadata=about,
            checkpoint=pack(state, self._drift(), self.config.name, self._hops())[replica],
        )
        stack.callback(writer.abandon)
        return writer

    @property
    def _freedom(self) -> int:
        conserved = self.config.ensemble == "nve"
        return degrees_of_freedom(self.system.n_atoms, momentum_conserved=conserved)

    def _starts(self, stop: threading.Event) -> list[Start]:
        """Return the start of every replica, drawn, read or computed again."""
        if self.index == 0:
            return first_starts(self.context)

        def earlier(state: State, replica: int) -> Engine:
            self.reporter.say(
                f"stage {self.config.name}: a start state is computed again from step "
                f"{state.step} of the stage before",
                "starting",
            )
            return make_engine(self.context, self.index - 1, state, [replica])

        before = self.context.config.stage[self.index - 1]
        return chain_starts(
            self.config, before, self.context.folder, self.system.masses, earlier, stop
        )
