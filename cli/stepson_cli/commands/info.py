"""`stepson info`: what is in a trajectory, or in many, from their tails alone."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stepson_cli.names import trajectory as named
from stepson_cli.terminal import Terminal, as_json, examples, with_terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["command"]


@click.command(
    name="info",
    epilog=examples(
        "stepson info md.son", "stepson info md.son --json", "stepson info zro2-300K"
    ),
)
@click.argument("files", type=named, nargs=-1, required=True, metavar="FILE...")
@as_json
@with_terminal
def command(files: tuple[Path | str, ...], as_json: bool, terminal: Terminal) -> None:
    """Show what is in a trajectory, in milliseconds.

    Reads the end of FILE and its metadata, never its frames: system, fields with their
    compression, steps, state, the last checkpoint, and where it comes from.

    Of several files, a folder or a quoted glob it shows a line for each run. Files that
    continue one another are one run; gaps and overlaps between them are named.
    """
    import stepson

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stepson.DamageWarning)  # what they tell is shown
        found = _facts(files)
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show(_view(found))


def _facts(files: tuple[Path | str, ...]) -> dict[str, Any]:
    """Of one file, or of the runs that there are."""
    import stepson
    from stepson.series.names import is_pattern
    from stepson_cli.facts import facts
    from stepson_cli.views.ensemble import overview_facts

    if len(files) > 1 or is_pattern(files[0]):
        runs = stepson.open_many(files, warn=False)
        if len(runs) > 1 or runs.remarks or len(runs.runs[0].members) > 1:
            return overview_facts(runs)
        files = runs.runs[0].paths
    with stepson.open(files[0]) as trajectory:
        return facts(trajectory)


def _view(found: dict[str, Any]) -> "RenderableType":
    if "runs" in found:
        from stepson_cli.views.ensemble import overview

        return overview(found)
    from stepson_cli.views.file import picture

    return picture(found)
