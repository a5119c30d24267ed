"""The files of a stage: creating one, leaving one as it is, noting who goes on with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stepson
from gkflux.dynamics.checkpoint import Checkpoint
from gkflux.dynamics.reporting import Reporter
from gkflux.system import System
from stepson import Field, Writer
from stepson.errors import WriterError

__all__ = ["create_file", "note_continuation", "open_file"]

DECISIVE = ("machine", "threads", "numba_threads", "blas", "device")
LIBRARIES = ("numpy", "torch", "numba", "vesin")


def create_file(
    path: Path,
    fields: Sequence[Field],
    system: System,
    *,
    timestep: float,
    metadata: dict[str, Any],
    checkpoint: Checkpoint,
) -> Writer:
    """Create the file of a replica; when this returns it is valid and holds its start.

    Raises:
        WriterError: it cannot be created, or another run was faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer = _created(path, fields, system, timestep, metadata)
    except WriterError as error:
        if not path.exists():
            raise
        raise WriterError(
            f"{path} has just been created by another run in this folder; wait until it "
            "ends, or choose another output folder"
        ) from error
    writer.checkpoint(checkpoint)
    writer.commit(wait=True)
    return writer


def _created(
    path: Path,
    fields: Sequence[Field],
    system: System,
    timestep: float,
    metadata: dict[str, Any],
) -> Writer:
    return stepson.create(
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


def open_file(path: Path) -> Writer:
    """Take the lock of a file, to go on after its last commit; commits are the caller's."""
    return stepson.open(path, "a", commit="manual", threaded=False)


def note_continuation(
    writer: Writer, now: dict[str, Any], steps: int, reporter: Reporter
) -> None:
    """Note who goes on with a file, and say what may change the last bits."""
    about = writer.trajectory().metadata
    writer.note({"continued": {**now, "steps": steps}})
    changed = [
        f"{key} {about[part].get(key)} -> {now[part].get(key)}"
        for part, keys in (("host", DECISIVE), ("versions", LIBRARIES))
        for key in keys
        if about[part].get(key) != now[part].get(key)
    ]
    if changed:
        line = f"{writer.path}: {', '.join(changed)}; last bits may differ from now on"
        reporter.say(line, "starting")
