"""What is in a trajectory, and whether it is sound.

`facts` asks an opened trajectory for all that can be said without reading its data, as
plain numbers and strings: that is what ``--json`` prints. `picture` draws the same facts.
`verdict` says what checking a whole file has found.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stepson.picture import composition
from stepson_cli.quantities import count, plain, plural, shorten, simulated, size

if TYPE_CHECKING:
    from stepson.trajectory import Trajectory
    from stepson.verify import Verification

__all__ = ["facts", "picture", "verdict", "verdict_facts"]

Facts = dict[str, Any]
STATE_STYLE = {"sealed": "good", "being written": "name", "not sealed": "warning"}
UNIT_CELL = 1e-6  # relative difference below which lengths and angles are the same


def facts(trajectory: "Trajectory") -> Facts:
    """Collect what the tail and the metadata of a file tell.

    Args:
        trajectory: opened; none of its frames is read.
    """
    frames = len(trajectory)
    steps = [int(trajectory.steps[0]), int(trajectory.steps[-1])] if frames else None
    timestep = trajectory.metadata.get("timestep")
    return {
        "path": str(trajectory.path),
        "uuid": str(trajectory.uuid),
        "size": trajectory.size,
        "state": _state(trajectory),
        "torn_bytes": trajectory.torn_bytes,
        "system": _system(trajectory.metadata),
        "frames": frames,
        "steps": steps,
        "time": [step * timestep for step in steps] if steps and timestep else None,
        "fields": _fields(trajectory),
        "checkpoints": [int(step) for step in trajectory.checkpoint_steps],
        "run": _run(trajectory.metadata),
    }


def picture(found: Facts) -> RenderableType:
    """Draw the facts.

    Args:
        found: of `facts`.
    """
    return Group(
        Text(found["path"], "title", overflow="fold"),
        _summary(found),
        "",
        _atoms(found["system"]),
        "",
        _columns(found["fields"]),
        *_provenance(found),
    )


def _state(trajectory: "Trajectory") -> str:
    """Sealed, being written by a process that lives, or left behind."""
    if trajectory.sealed:
        return "sealed"
    path = trajectory.path
    return "being written" if path and _owner(path) is not None else "not sealed"


def _owner(path: Path) -> int | None:
    """The process of this host that says it writes the file, if it lives."""
    import json
    import socket

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


def _summary(found: Facts) -> Text:
    text = Text.assemble(
        (found["state"], STATE_STYLE[found["state"]]), f", {size(found['size'])}"
    )
    text.append(f", {plural(found['frames'], 'frame')}")
    if found["steps"]:
        first, last = found["steps"]
        text.append(f", steps {count(first)} to {count(last)}")
    if found["time"]:
        text.append(f", {simulated(found['time'][1] - found['time'][0])}")
    if found["torn_bytes"]:
        torn = plural(found["torn_bytes"], "byte")
        text.append(
            f"\n{torn} at the end were never committed; they are skipped", "warning"
        )
    return text


def _atoms(system: Facts) -> Text:
    text = Text.assemble((system["formula"] or "no atoms", "name"))
    text.append(f"  {plural(system['atoms'], 'atom')}")
    if system["cell"] is None:
        return text.append(", no cell")
    text.append(f", {_cell(np.array(system['cell']))}")
    if system["pbc"] is not None:
        axes = "".join(axis for axis, on in zip("xyz", system["pbc"], strict=True) if on)
        text.append(", periodic" if axes == "xyz" else f", periodic in {axes or 'nothing'}")
    return text


def _cell(cell: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    lengths = np.linalg.norm(cell, axis=1)
    pairs = ((1, 2), (0, 2), (0, 1))
    cosines = [cell[a] @ cell[b] / (lengths[a] * lengths[b]) for a, b in pairs]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    if np.allclose(angles, 90, rtol=UNIT_CELL):
        if np.allclose(lengths, lengths[0], rtol=UNIT_CELL):
            return f"cube of {lengths[0]:.3f} Å"
        return " x ".join(f"{length:.3f}" for length in lengths) + " Å"
    degrees = ", ".join(f"{angle:.1f}" for angle in angles)
    return " x ".join(f"{length:.3f}" for length in lengths) + f" Å, {degrees}°"


def _columns(fields: list[Facts]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="quiet")
    left = {"field", "unit", "shape", "type", "codec"}
    for name in (
        "field",
        "unit",
        "shape",
        "type",
        "every",
        "samples",
        "codec",
        "ratio",
        "size",
    ):
        side = "left" if name in left else "right"
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for field in fields:
        table.add_row(
            Text(field["name"], "name"),
            field["unit"],
            " x ".join(str(n) for n in field["shape"]) or "1",
            field["dtype"],
            _cadence(field),
            count(field["samples"]),
            _codec(field),
            f"{field['raw'] / field['stored']:.1f}" if field["stored"] else "–",
            size(field["stored"]),
        )
    return table


def _cadence(field: Facts) -> str:
    if field["every"] is None:
        return "–"
    return f"{count(field['every'])}{'+' + str(field['offset']) if field['offset'] else ''}"


def _codec(field: Facts) -> str:
    bound = "" if field["precision"] is None else f" ±{field['precision']:g}"
    return f"{field['codec'] or '–'}{bound}"


def _provenance(found: Facts) -> list[RenderableType]:
    rows = list(_rows(found["run"]))
    if found["checkpoints"]:
        rows.append(("checkpoint", f"step {count(max(found['checkpoints']))}"))
    if not rows:
        return []
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="quiet", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in rows:
        table.add_row(name, Text(words))
    return ["", table]


def _rows(run: Facts) -> "list[tuple[str, str]]":
    name = "stage" if "stage" in run else "timestep"
    rows = [(name, _stage(run)), ("potential", _potential(run.get("potential")))]
    start = run.get("start")
    if isinstance(start, Mapping) and start.get("file"):
        rows.append(
            ("started from", f"{start['file']}, step {count(int(start.get('step', 0)))}")
        )
    host = run.get("host")
    if isinstance(host, Mapping):
        versions = run.get("versions") or {}
        program = f", stepson {versions['stepson']}" if versions.get("stepson") else ""
        rows.append(
            ("written on", f"{host.get('name', '?')}, {host.get('device', 'cpu')}{program}")
        )
    return [(name, words) for name, words in rows if words]


def _stage(run: Facts) -> str:
    stage = run.get("stage")
    words = []
    if isinstance(stage, Mapping):
        words.append(f"{stage.get('name')}, {plural(int(stage.get('steps', 0)), 'step')}")
    if "timestep" in run:
        words.append(f"{run['timestep']:g} fs")
    if "ensemble" in run:
        words.append(str(run["ensemble"]))
    if run.get("replicas", 1) > 1:
        words.append(f"replica {run.get('replica')} of {run['replicas']}")
    if "temperature" in run:
        words.append(f"{plain(float(run['temperature']))} K")
    if "seed" in run:
        words.append(f"seed {run['seed']}")
    return ", ".join(words)


def _potential(potential: Any) -> str:
    if not isinstance(potential, Mapping):
        return ""
    words = [Path(str(potential["file"])).name] if potential.get("file") else []
    words += [str(potential[key]) for key in ("kind", "dtype") if potential.get(key)]
    if potential.get("sha256"):
        words.append(f"sha256 {shorten(str(potential['sha256']), 17)}")
    return ", ".join(words)


def verdict(result: "Verification", *, path: str, torn: int) -> Text:
    """Say whether a file is sound, and list what is damaged.

    Args:
        result: of the check.
        path: of the file.
        torn: bytes that were never committed.
    """
    state = ("sound", "good") if result.ok else ("damaged", "bad")
    text = Text.assemble((path, "title"), ": ", state)
    text.append(f", {size(result.bytes)} in {plural(result.commits, 'commit')}")
    text.append(f", {plural(result.frames, 'frame')}")
    if torn:
        text.append(f"\n{plural(torn, 'byte')} at the end were never committed: no damage")
    for damage in result.damages:
        text.append(f"\n  {damage}", "bad")
    return text


def verdict_facts(result: "Verification", *, path: str, torn: int) -> Facts:
    """The same as numbers and strings."""
    return {
        "path": path,
        "ok": result.ok,
        "commits": result.commits,
        "records": result.records,
        "frames": result.frames,
        "bytes": result.bytes,
        "torn_bytes": torn,
        "damages": [str(damage) for damage in result.damages],
    }
