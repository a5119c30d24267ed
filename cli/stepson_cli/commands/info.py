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
def command(files: tuple[Path | str, ...], as_json: bool, terminal: Terminal) -> int:
    """Show what is in a trajectory, in milliseconds.

    Reads the end of FILE and its metadata, never its frames: system, fields with their
    compression, steps, state, the last checkpoint, and where it comes from.

    Of several files, a folder or a quoted glob it shows a line for each run. Files that
    continue one another are one run; gaps and overlaps between them are named. What cannot
    be opened is named at the end, and then it exits with 1.
    """
    import stepson

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stepson.DamageWarning)  # what they tell is shown
        sound, errors = _sound(files)
        found = _facts(sound)
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show(_view(found))
    for line in errors:
        click.echo(f"{click.style('Error:', fg='red', bold=True)} {line}", err=True)
    return 1 if errors else 0


def _sound(files: tuple[Path | str, ...]) -> tuple[tuple[Path | str, ...], list[str]]:
    """Those of several names that can be opened, and why the others cannot.

    Raises:
        StepsonError: none can.
    """
    import stepson

    if len(files) < 2:
        return files, []
    sound, errors = [], []
    for each in files:
        try:
            stepson.open_many(each, join=False, warn=False)
        except stepson.StepsonError as error:
            errors.append(error)
        else:
            sound.append(each)
    if not sound:
        raise errors[0]
    return tuple(sound), [str(each) for each in errors]


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
