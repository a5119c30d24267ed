"""`stepson verify`: is every byte that was committed still what it was?"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepson_cli.names import short
from stepson_cli.names import trajectory as named
from stepson_cli.terminal import Terminal, as_json, examples, with_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepson.verify import Verification

__all__ = ["command"]

DAMAGED = 1


@click.command(
    name="verify", epilog=examples("stepson verify md.son", "stepson verify md.son --deep")
)
@click.argument("file", type=named)
@click.option("--deep", is_flag=True, help="Decode every chunk and check the index, too.")
@as_json
@with_terminal
def command(file: Path | str, deep: bool, as_json: bool, terminal: Terminal) -> int:
    """Check every checksum of a trajectory.

    Reads FILE once, in bounded memory. Exits with 1 and lists what is damaged, if anything
    is: where, how many bytes, which field and steps. The rest of a damaged file stays
    readable; `stepson recover` saves it. Bytes that were never committed, as a killed run
    leaves them, are no damage.
    """
    import stepson
    from stepson.series.names import is_pattern
    from stepson_cli.progress import reading
    from stepson_cli.views.verify import verdict, verdict_facts

    if is_pattern(file):
        raise stepson.FormatError(f"{file} is a folder or a glob; give one file at a time")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stepson.DamageWarning)  # what they tell is listed
        with reading(terminal, str(file)) as listener:
            result, torn = _checked(
                file, deep, lambda done, total: listener(short(file), done, total)
            )
    if as_json:
        terminal.show_json(verdict_facts(result, path=str(file), torn=torn))
    else:
        terminal.show(verdict(result, path=str(file), torn=torn))
    return 0 if result.ok else DAMAGED


def _checked(
    file: Path | str, deep: bool, listener: "Callable[[int, int], None]"
) -> "tuple[Verification, int]":
    """What is wrong, and how many bytes are torn."""
    import stepson
    from stepson.verify import verify_damaged

    try:
        trajectory = stepson.open(file)
    except stepson.FormatError:
        if not isinstance(file, Path):
            raise
        return verify_damaged(file, deep=deep, on_progress=listener)
    with trajectory:
        found = trajectory.verify(deep=deep, on_progress=listener)
        return found, trajectory.torn_bytes
