"""Several trajectories at once: one line a run, and what does not fit between files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stepson.picture import composition
from stepson_cli.facts import Facts
from stepson_cli.quantities import count, plural, simulated, size

if TYPE_CHECKING:
    from stepson.series.ensemble import Ensemble, Run

__all__ = ["overview", "overview_facts"]


def overview_facts(ensemble: "Ensemble") -> Facts:
    """Collect what is known of the runs; no file is opened again.

    Args:
        ensemble: of `stepson.open_many`.
    """
    return {
        "runs": [_run(each) for each in ensemble.runs],
        "frames": sum(each.frames for each in ensemble.runs),
        "size": sum(each.size for each in ensemble.runs),
        "remarks": list(ensemble.remarks),
    }


def _run(run: "Run") -> Facts:
    first, steps = run.members[0], run.steps
    time = None
    if steps is not None and first.timestep is not None:
        time = [step * first.timestep for step in steps]
    return {
        "name": run.name,
        "files": [str(path) for path in run.paths],
        "formula": "" if first.numbers is None else composition(first.numbers.tolist()),
        "atoms": first.schema.n_atoms,
        "frames": run.frames,
        "steps": None if steps is None else list(steps),
        "time": time,
        "size": run.size,
        "state": "sealed" if run.members[-1].sealed else "not sealed",
        "torn_bytes": run.torn_bytes,
    }


def overview(found: Facts) -> RenderableType:
    """Draw the facts.

    Args:
        found: of `overview_facts`.
    """
    head = Text(plural(len(found["runs"]), "run"), "title")
    head.append(f", {plural(found['frames'], 'frame')}, {size(found['size'])}", "value")
    remarks = [Text(line, "warning", overflow="fold") for line in found["remarks"]]
    return Group(head, "", _table(found["runs"]), *([""] if remarks else []), *remarks)


def _table(runs: Sequence[Facts]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="quiet")
    table.add_column("run", overflow="fold")
    table.add_column("atoms", no_wrap=True)
    for name in ("frames", "steps", "time", "size"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("state")
    for run in runs:
        table.add_row(
            Text(run["name"], "name"),
            run["formula"] or str(run["atoms"]),
            count(run["frames"]),
            _span(run["steps"]),
            simulated(run["time"][1] - run["time"][0]) if run["time"] else "–",
            size(run["size"]),
            _state(run),
        )
    return table


def _span(steps: Any) -> str:
    return f"{count(steps[0])} to {count(steps[1])}" if steps else "–"


def _state(run: Facts) -> Text:
    text = Text(run["state"], "good" if run["state"] == "sealed" else "warning")
    if len(run["files"]) > 1:
        text.append(f", {len(run['files'])} files", "value")
    if run["torn_bytes"]:
        text.append(f", {plural(run['torn_bytes'], 'byte')} torn", "warning")
    return text
