"""`stepson info`: what is in a trajectory, from its tail alone."""

import warnings
from pathlib import Path

import click

from stepson_cli.names import trajectory as named
from stepson_cli.terminal import Terminal, as_json, examples, with_terminal

__all__ = ["command"]


@click.command(
    name="info", epilog=examples("stepson info md.son", "stepson info md.son --json")
)
@click.argument("file", type=named)
@as_json
@with_terminal
def command(file: Path | str, as_json: bool, terminal: Terminal) -> None:
    """Show what is in a trajectory, in milliseconds.

    Reads the end of FILE and its metadata, never its frames: system, fields with their
    compression, steps, state, the last checkpoint, and where it comes from.
    """
    import stepson
    from stepson_cli.facts import facts

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stepson.DamageWarning)  # what they tell is shown
        with stepson.open(file) as trajectory:
            found = facts(trajectory)
    if as_json:
        terminal.show_json(found)
    else:
        from stepson_cli.views.file import picture

        terminal.show(picture(found))
