"""The files of a stage: creating one, leaving one as it is, noting who goes on with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stepson
from gkflux.dynamics.checkpoint import Checkpoint
from gkflux.dynamics.reporting import Reporter
from gkflux.system import System
from stepson import Field, Writer

__all__ = ["check_environment", "create_file"]

DECISIVE = ("machine", "threads", "numba_threads", "blas", "device")


def create_file(
    path: Path,
    fields: Sequence[Field],
    system: System,
    *,
    timestep: float,
    metadata: dict[str, Any],
    checkpoint: Checkpoint,
) -> Writer:
    """Create the file of a replica; when this returns it is valid and holds its start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = stepson.create(
        path,
        fields=fields,
        numbers=system.numbers,
        masses=system.masses,
        cell=system.cell,
        pbc=system.pbc.tolist(),
        timestep=timestep,
        metadata=metadata,
        commit="manual",
        threaded=False,
    )
    writer.checkpoint(checkpoint)
    writer.commit(wait=True)
    return writer


def check_environment(writer: Writer, now: dict[str, Any], reporter: Reporter) -> None:
    """Say and note what differs from the machine on which the file was begun."""
    before = writer.trajectory().metadata["host"]
    host = now["host"]
    changed = [key for key in DECISIVE if before.get(key) != host[key]]
    writer.note({"continued": now})
    if changed:
        details = ", ".join(f"{key} {before.get(key)} -> {host[key]}" for key in changed)
        reporter.say(
            f"{writer.path}: {details}; last bits may differ from now on", "starting"
        )
