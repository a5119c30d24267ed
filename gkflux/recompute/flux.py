"""Compute the heat flux of a trajectory anew: one file in, one file out.

Frames are computed in pieces by whoever is free, come back in their order, and are
committed in it every few seconds. So any number of workers writes the same samples, memory
stays bounded, and a process that is killed, at any time, costs what was not committed: the
same call goes on behind it.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import numpy as np

from gkflux.errors import FluxError, GkfluxWarning
from gkflux.flux import FORMULATIONS, GAUGES, fit_lattice
from gkflux.flux.local import warn_if_wrong
from gkflux.parallel import Pool, in_order, pool
from gkflux.potentials.base import Potential, check_elements
from gkflux.recompute.frames import Asked, Computed, Work
from gkflux.recompute.model import Model, find_model
from gkflux.recompute.source import Source, open_source
from gkflux.recompute.spacing import find_spacing
from gkflux.recompute.target import Found, begin, look, settings, write
from gkflux.system import System
from stepson import Writer
from stepson.errors import StepsonError

__all__ = ["Recomputed", "Tally", "open_pool", "recompute_flux"]

Tally = Callable[[str, int, int], None]
"""Called with the name of a trajectory, the frames that are done, and of how many."""


@dataclass(frozen=True)
class Recomputed:
    """What was done."""

    source: str
    target: str
    frames: int
    """In the file now."""
    computed: int
    """By this call."""
    seconds: float
    """That this took."""
    spacing: float
    """Between frames, fs; of irregular ones the first two."""
    formulation: str
    gauge: str
    convective: bool
    model: str
    finished: bool
    """Whether every frame is in the file; else the same call goes on."""
    hop: Mapping[str, int] | None = None
    """Step and atom that has left its site on the reference lattice first."""
    uuid: str = ""
    """Of the file that was written."""
    digest: str = ""
    """Of the file that was written."""
    source_uuid: str = ""
    """Of the trajectory."""


def recompute_flux(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | None = None,
    formulation: str = "semilocal",
    gauge: str | None = None,
    lattice: str | Path | System | None = None,
    convective: bool = True,
    dtype: str | None = None,
    device: str = "cpu",
    force: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    where: Pool | None = None,
    parent: Mapping[str, Any] | None = None,
    commit_seconds: float = 10.0,
    progress: Tally | None = None,
    stop: Event | None = None,
) -> Recomputed:
    """Write the heat flux of stored frames, with energies and temperature, to a new file.

    Args:
        source: a trajectory with positions and velocities.
        target: where to; what is already there is gone on with, never overwritten.
        model: see `find_model`; None: the one of the run.
        formulation: ``semilocal``; ``local``, ``hardy`` and ``unfolded`` by name only.
        gauge: ``none`` or ``lattice``; None: ``lattice`` where a lattice is given or the
            run has one.
        lattice: equilibrium structure; None: that of the run.
        convective: add what the atoms carry; the lattice gauge has no such part.
        dtype: of the network; None: that of the run.
        device: ``cpu`` or ``cuda``.
        force: compute although the frames are too far apart in time.
        threads: of this process; None: one a core.
        workers: processes of this machine instead.
        scheduler: of a dask cluster that sees the same files, instead.
        where: a pool that is open already, instead.
        parent: of the new file: uuid, digest and step of the flux that it continues.
        commit_seconds: between two commits.
        progress: called after every piece.
        stop: when set, what is computed is committed, and the file left to be gone on with.

    Raises:
        FluxError: frames, model, lattice or words that do not fit; frames too far apart.
        WriterError: the target cannot be written.

    Warns:
        GkfluxWarning: a formulation that is wrong for the model, frames that are too far
            apart, an atom that has left its site.
    """
    _check_words(formulation, gauge)
    frames = open_source(str(source))
    chosen = find_model(model, frames.path, frames.metadata, dtype=dtype, device=device)
    potential = chosen.load()
    _check_atoms(frames, potential)
    asked = _asked(frames, formulation, gauge, lattice, convective)
    if formulation == "local":
        warn_if_wrong(potential)
    wanted = settings(frames, asked, chosen, potential)
    path = Path(target)
    found = look(path, frames, wanted)
    job = _Job(frames, path, asked, chosen, potential, found)
    if found is not None and found.finished:
        return job.result(0, 0.0)
    _check_spacing(frames, potential, force)
    freedom = _freedom(frames)
    writer = begin(
        path,
        frames,
        asked,
        potential,
        found=found,
        settings=wanted,
        freedom=freedom,
        parent=parent,
    )
    sha256 = wanted["potential.sha256"]
    work = Work(frames, chosen, sha256, asked, freedom)
    start = monotonic()
    with open_pool(where, threads, workers, scheduler, device) as there:
        computed = job.compute(writer, work, there, commit_seconds, progress, stop)
    return job.result(computed, monotonic() - start)


@dataclass
class _Job:
    source: Source
    path: Path
    asked: Asked
    model: Model
    potential: Potential
    found: Found | None
    hop: dict[str, int] | None = None

    def compute(
        self,
        writer: Writer,
        work: Work,
        there: Pool | None,
        commit_seconds: float,
        progress: Tally | None,
        stop: Event | None,
    ) -> int:
        """Compute what is missing, commit it now and then, and close the file."""
        self.hop = _known_hop(writer)
        after = None if self.found is None else self.found.last
        pieces = list(self.source.pieces(after))
        total = self.source.samples
        done = total - sum(piece.frames for piece in pieces)
        computed, saved = 0, monotonic()
        results = in_order(work, pieces, there)
        with writer, self._kept(writer), closing(results):
            for part in results:
                self._take(writer, part)
                computed += len(part.steps)
                done += part.piece.frames
                if monotonic() > saved + commit_seconds:
                    self.commit(writer)
                    saved = monotonic()
                if progress is not None:
                    progress(self.source.path, done, total)
                if stop is not None and stop.is_set():
                    self.commit(writer)
                    writer.abandon()  # it is not complete, so it is not sealed
                    return computed
            self.commit(writer)
        return computed

    @contextmanager
    def _kept(self, writer: Writer) -> Iterator[None]:
        """Keep what was computed when something goes wrong."""
        try:
            yield
        except Exception:
            with suppress(StepsonError):
                self.commit(writer)
            raise

    def _take(self, writer: Writer, part: Computed) -> None:
        write(writer, part)
        if self.hop is None and part.hop is not None:
            self.hop = part.hop
            warnings.warn(
                f"{self.source.path}: atom {part.hop['atom']} has left its site on the "
                f"reference lattice at step {part.hop['step']}: from there on the flux in "
                "this gauge is not the heat flux; use --gauge none",
                GkfluxWarning,
                stacklevel=4,
            )

    def commit(self, writer: Writer) -> None:
        """Make durable what was appended, and where an atom left its site."""
        if self.asked.lattice is not None and writer.last_step is not None:
            writer.checkpoint({"step": writer.last_step, "hop": self.hop})
        writer.commit()

    def result(self, computed: int, seconds: float) -> Recomputed:
        """Say what is in the file now."""
        import stepson

        with stepson.open(self.path) as trajectory:
            if self.asked.lattice is not None and trajectory.checkpoint_steps:
                self.hop = trajectory.checkpoint().get("hop")
            steps = trajectory["heat_flux"].steps
            every = int(steps[1] - steps[0]) if len(steps) > 1 else 0
            return Recomputed(
                source=self.source.path,
                target=str(self.path),
                frames=len(steps),
                computed=computed,
                seconds=seconds,
                spacing=every * self.source.timestep,
                formulation=self.asked.formulation,
                gauge=self.asked.gauge,
                convective=self.asked.convective,
                model=Path(self.model.name).name,
                finished=trajectory.sealed,
                hop=self.hop,
                uuid=trajectory.uuid,
                digest=trajectory.digest,
                source_uuid=self.source.uuid,
            )


def _known_hop(writer: Writer) -> dict[str, int] | None:
    state = writer.checkpoint_state()
    return None if state is None else state.get("hop")


@contextmanager
def open_pool(
    where: Pool | None,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    device: str,
) -> Iterator[Pool | None]:
    """Open a pool; torch gets its threads back afterwards."""
    import torch

    before = torch.get_num_threads()
    try:
        if where is not None:
            yield where
            return
        on_gpu = device != "cpu" and threads is None
        with pool(
            threads=1 if on_gpu else threads, workers=workers, scheduler=scheduler
        ) as opened:
            yield opened
    finally:
        torch.set_num_threads(before)


def _check_words(formulation: str, gauge: str | None) -> None:
    if formulation not in FORMULATIONS:
        raise FluxError(f"formulation {formulation!r} is none of {', '.join(FORMULATIONS)}")
    if gauge is not None and gauge not in GAUGES:
        raise FluxError(f"gauge {gauge!r} is none of {', '.join(GAUGES)}")


def _check_atoms(source: Source, potential: Potential) -> None:
    try:
        check_elements(potential.elements, source.system.numbers)
    except FluxError as error:
        raise FluxError(f"{source.path}: {error}") from None


def _asked(
    source: Source,
    formulation: str,
    gauge: str | None,
    lattice: str | Path | System | None,
    convective: bool,
) -> Asked:
    """Find the lattice of the gauge.

    Raises:
        FluxError: there is none, or it does not fit the first frame.
    """
    known = lattice is not None or source.lattice is not None
    if gauge == "lattice" and not known:
        raise FluxError(
            f"{source.path} has no reference lattice; give the equilibrium structure with "
            "--lattice, or use --gauge none"
        )
    if gauge == "none" and lattice is not None:
        raise FluxError("--lattice has no meaning with --gauge none; remove one of the two")
    if not known or gauge == "none":
        return Asked(formulation, "none", convective)
    if lattice is None:
        assert source.lattice is not None
        return Asked(formulation, "lattice", False, source.lattice)
    structure = lattice if isinstance(lattice, System) else System.read(lattice)
    try:
        sites = fit_lattice(source.system, structure)
    except FluxError as error:
        raise FluxError(f"{lattice}: {error}") from None
    return Asked(formulation, "lattice", False, np.asarray(sites))


def _check_spacing(source: Source, potential: Potential, force: bool) -> None:
    """Refuse frames that are too far apart in time.

    Raises:
        FluxError: they are, and nobody insists.
    """
    spacing = find_spacing(source, potential)
    if spacing.fine:
        return
    if not force:
        raise FluxError(f"{source.path}: {spacing}; --force computes it all the same")
    warnings.warn(f"{source.path}: {spacing}", GkfluxWarning, stacklevel=3)


def _freedom(source: Source) -> int:
    """Degrees of freedom of the temperature: as the run said, else 3 n - 3."""
    told = source.metadata.get("degrees_of_freedom")
    if isinstance(told, int) and told > 0:
        return told
    n = source.system.n_atoms
    return 3 * n - (3 if n > 1 else 0)
