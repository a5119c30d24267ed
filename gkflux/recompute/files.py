"""The heat flux of many trajectories: replicas, and runs that continue one another.

A trajectory that continues another one of them gives a flux that continues the flux of the
other, so that Green-Kubo joins what belongs together.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import stepson
from gkflux.errors import FluxError
from gkflux.recompute.flux import Recomputed, Tally, open_pool, recompute_flux
from gkflux.recompute.target import KIND
from gkflux.trajectories import find_files

__all__ = ["choose", "recompute_files", "targets"]


def choose(
    paths: Iterable[str | Path], *, any_ensemble: bool = False
) -> tuple[list[str], list[str]]:
    """Expand files, globs and folders.

    Of a folder, the trajectories at constant energy with positions and velocities are
    meant.

    Returns:
        the files, and lines on those that were left out.

    Raises:
        FluxError: nothing is there, or a file is given twice.
    """
    chosen: list[str] = []
    left: list[str] = []
    for entry in paths:
        if not (str(entry) and Path(entry).is_dir()):
            chosen += find_files(entry)
            continue
        found = sorted(map(str, Path(entry).rglob("*.son")))
        reasons = {path: _unfit(path, any_ensemble) for path in found}
        useful = [path for path in found if not reasons[path]]
        if not useful:
            raise FluxError(
                f"{entry}: {len(found)} files, none with positions and velocities at "
                "constant energy; record them in an nve stage"
            )
        chosen += useful
        left += [f"left out: {path}, {reasons[path]}" for path in found if reasons[path]]
    for path in chosen:
        if chosen.count(path) > 1:
            raise FluxError(f"{path} is given twice; give it once")
    return chosen, left


def _unfit(path: str, any_ensemble: bool) -> str:
    """Why a file of a folder is not meant; empty where it is."""
    with stepson.open(path) as trajectory:
        metadata = trajectory.metadata
        if metadata.get("kind") == KIND:
            return "a heat flux of stored frames"
        if not {"positions", "velocities"} <= set(trajectory.fields):
            return "without positions and velocities"
        ensemble = metadata.get("ensemble")
        if ensemble in (None, "nve") or (any_ensemble and ensemble != "npt"):
            return ""
        return f"an {ensemble} stage" if ensemble == "npt" else f"a {ensemble} stage"


def targets(sources: list[str], output: Path | None) -> list[Path]:
    """Name the file that goes with each trajectory.

    Args:
        sources: the trajectories.
        output: the file, for one trajectory; the folder, for several, in which they have
            the places that the trajectories have in the folder that all of them share;
            None: ``NAME.flux.son`` beside ``NAME.son``.
    """
    if output is not None and len(sources) == 1:
        return [output]
    if output is None:
        places = [Path(_local(source)) for source in sources]
        return [place.with_name(f"{place.stem}.flux.son") for place in places]
    if output.exists() and not output.is_dir():
        raise FluxError(
            f"{output} is a file; for several trajectories name a folder with -o"
        )
    whole = [os.path.abspath(_local(source)) for source in sources]
    shared = os.path.commonpath([os.path.dirname(path) for path in whole])
    return [output / os.path.relpath(path, shared) for path in whole]


def _local(source: str) -> str:
    """A path; of a URL its last part, here."""
    return source.rstrip("/").rpartition("/")[2] if "://" in source else source


def recompute_files(
    pairs: Iterable[tuple[str, Path]],
    *,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "cpu",
    stop: Event | None = None,
    progress: Tally | None = None,
    **options: Any,
) -> Iterator[Recomputed]:
    """Compute one trajectory after the other, with one pool of workers.

    Args:
        pairs: trajectory, and the file to write.
        threads: see `recompute_flux`, as all that follow.
        workers: likewise.
        scheduler: likewise.
        device: likewise.
        stop: likewise; the trajectories behind are not begun.
        progress: likewise.
        **options: likewise.
    """
    done: dict[str, Recomputed] = {}
    with open_pool(None, threads, workers, scheduler, device) as where:
        for source, target in _parents_first(list(pairs)):
            result = recompute_flux(
                source,
                target,
                where=where,
                threads=1,
                device=device,
                parent=_parent(source, done),
                stop=stop,
                progress=progress,
                **options,
            )
            done[result.source_uuid] = result
            yield result
            if stop is not None and stop.is_set():
                return


def _parents_first(pairs: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Order trajectories so that each comes behind the one that it continues."""
    known: dict[str, tuple[str | None, tuple[str, Path]]] = {}
    for pair in pairs:
        with stepson.open(pair[0]) as trajectory:
            parent = trajectory.parent
            told = None if parent is None else str(parent.get("uuid"))
            if trajectory.uuid in known:
                raise FluxError(
                    f"{pair[0]} and {known[trajectory.uuid][1][0]} are the same "
                    "trajectory; give it once"
                )
            known[trajectory.uuid] = (told, pair)

    def depth(uuid: str, limit: int) -> int:
        told = known[uuid][0]
        return 1 + depth(told, limit - 1) if told in known and limit else 0

    order = sorted(known, key=lambda uuid: depth(uuid, len(known)))
    return [known[uuid][1] for uuid in order]


def _parent(source: str, done: Mapping[str, Recomputed]) -> dict[str, Any] | None:
    """What the flux of a trajectory continues, if that is one of those that are done."""
    with stepson.open(source) as trajectory:
        told = trajectory.parent
    if told is None or str(told.get("uuid")) not in done:
        return None
    flux = done[str(told["uuid"])]
    return {"uuid": flux.uuid, "digest": flux.digest, "step": told["step"]}
