"""The picture of what is in a trajectory, drawn from `stepson_cli.facts`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stepson_cli.facts import Facts
from stepson_cli.quantities import count, plain, plural, shorten, simulated, size

__all__ = ["picture"]

STATE_STYLE = {"sealed": "good", "being written": "name", "not sealed": "warning"}
SUSPICIOUS = 0.2  # share of a file that is torn and may well be damaged
UNIT_CELL = 1e-6  # relative difference below which lengths and angles are the same


def picture(found: Facts) -> RenderableType:
    """Draw the facts.

    Args:
        found: of `stepson_cli.facts.facts`.
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
    if found["broken_footer"]:
        text.append("\nits last bytes are a FOOTER that does not verify: killed while ")
        text.append("closing, or damaged; nothing is lost")
    elif found["torn_bytes"]:
        torn = plural(found["torn_bytes"], "byte")
        text.append(f"\n{torn} at the end were never committed", "warning")
        since = found["torn_since"]
        if since is not None:
            text.append(f"; what is committed ends with step {count(since)}", "warning")
        if found["torn_bytes"] > SUSPICIOUS * found["size"]:
            text.append("\nthat is much for a killed run: `stepson verify` looks closer")
    if found["damages"]:
        text.append("\ndamaged", "bad")
        text.append(": `stepson verify` says where")
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
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="quiet")
    for name in ("field", "unit", "shape", "type"):
        table.add_column(name, no_wrap=True)
    for name in ("every", "samples"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("codec", no_wrap=True)
    for name in ("ratio", "size"):
        table.add_column(name, no_wrap=True, justify="right")
    for field in fields:
        table.add_row(
            Text(field["name"], "name"),
            field["unit"],
            _shape(field),
            field["dtype"],
            _cadence(field),
            count(field["samples"]),
            _codec(field),
            f"{field['raw'] / field['stored']:.1f}" if field["stored"] else "–",
            size(field["stored"]),
        )
    return table


def _shape(field: Facts) -> str:
    """Write n for the atoms: ten columns have to fit in eighty."""
    axes = ("n" if axis == "atom" else str(axis) for axis in field["shape"])
    return " x ".join(axes) or "1"


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
