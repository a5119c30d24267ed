"""Everything that can be said of a trajectory without reading its data.

Plain numbers, strings, lists and dicts: what ``stepson info --json`` prints, and what
`stepson_cli.views.file` draws.
"""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stepson.errors import FormatError
from stepson.index import Column
from stepson.picture import composition

if TYPE_CHECKING:
    from stepson.trajectory import Trajectory

__all__ = ["Facts", "facts"]

Facts = dict[str, Any]


def facts(trajectory: "Trajectory") -> Facts:
    """Collect what the tail and the metadata of a file tell, and what of it is damaged.

    Args:
        trajectory: opened; none of its frames is read.
    """
    damages: list[str] = []
    frames = len(trajectory)
    steps = _steps(trajectory, damages) if frames else None
    metadata = _metadata(trajectory, damages)
    timestep = metadata.get("timestep")
    found = {
        "path": str(trajectory.path),
        "uuid": str(trajectory.uuid),
        "size": trajectory.size,
        "state": _state(trajectory),
        "torn_bytes": trajectory.torn_bytes,
        "torn_since": trajectory.last_step if frames and trajectory.torn_bytes else None,
        "broken_footer": sum(part.opened.broken_footer for part in trajectory.parts),
        "system": _system(metadata),
        "frames": frames,
        "steps": steps,
        "time": [step * timestep for step in steps] if steps and timestep else None,
        "fields": _fields(trajectory),
        "checkpoints": [int(step) for step in trajectory.checkpoint_steps],
        "run": _run(metadata),
    }
    damages += [str(each) for part in trajectory.parts for each in part.opened.damages]
    return {**found, "damages": damages}


def _steps(trajectory: "Trajectory", damages: list[str]) -> list[int] | None:
    """First and last step; from the index where a block cannot be read."""
    try:
        return [int(trajectory.steps[0]), int(trajectory.steps[-1])]
    except FormatError as error:
        damages.append(str(error))
    unit = trajectory.opened.tree.find(Column.FRAMES, 0)
    return None if unit is None else [int(unit.row[Column.FIRST]), trajectory.last_step]


def _metadata(trajectory: "Trajectory", damages: list[str]) -> Facts:
    """What can be read of the metadata."""
    found: Facts = {}
    try:
        keys = list(trajectory.metadata)
    except FormatError as error:
        damages.append(str(error))
        return found
    for key in keys:
        try:
            found[key] = trajectory.metadata[key]
        except FormatError as error:
            damages.append(str(error))
    return found


def _state(trajectory: "Trajectory") -> str:
    """Sealed, being written by a process that lives, or left behind."""
    if trajectory.sealed:
        return "sealed"
    path = trajectory.path
    here = isinstance(path, Path) and _owner(path) is not None
    return "being written" if here else "not sealed"


def _owner(path: Path) -> int | None:
    """The process of this host that says it writes the file, if it lives."""
    try:
        owner = json.loads(path.with_name(path.name + ".lock").read_text(encoding="utf-8"))
        process = int(owner["pid"])
        if owner["host"] == socket.gethostname():
            os.kill(process, 0)
            return process
    except PermissionError:
        return process  # it lives, and belongs to somebody else
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return None


def _system(metadata: Mapping[str, Any]) -> Facts:
    numbers = np.asarray(metadata.get("numbers", ()), dtype=int)
    cell = metadata.get("cell")
    shape = None if cell is None else np.asarray(cell, dtype=float)
    pbc = metadata.get("pbc")
    return {
        "formula": composition(numbers.tolist()),
        "atoms": len(numbers),
        "cell": None if shape is None else shape.tolist(),
        "pbc": None if pbc is None else [bool(p) for p in np.broadcast_to(pbc, 3)],
        "volume": None if shape is None else abs(float(np.linalg.det(shape))),
    }


def _fields(trajectory: "Trajectory") -> list[Facts]:
    totals = trajectory.opened.table.totals
    return [
        {
            "name": name,
            "unit": field.unit,
            "dtype": field.dtype,
            "shape": list(field.shape),
            "every": field.every,
            "offset": field.offset,
            "precision": field.precision,
            "attributes": dict(field.attributes),
            "samples": len(trajectory[name]),
            "codec": totals.codecs[i],
            "raw": totals.raw[i],
            "stored": totals.stored[i],
        }
        for i, (name, field) in enumerate(trajectory.fields.items())
    ]


def _run(metadata: Mapping[str, Any]) -> Facts:
    """What a run says about itself; files of other origin have little of it."""
    keys = (
        "ensemble",
        "stage",
        "replica",
        "replicas",
        "timestep",
        "temperature",
        "seed",
        "potential",
        "start",
        "host",
        "versions",
    )
    return {key: metadata[key] for key in keys if metadata.get(key) is not None}
