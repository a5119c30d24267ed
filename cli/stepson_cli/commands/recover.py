"""`stepson recover`: everything that is sound of a damaged file, in a new one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from stepson_cli.names import short
from stepson_cli.names import trajectory as named
from stepson_cli.terminal import Terminal, as_json, examples, with_terminal

__all__ = ["command"]

LOST = 1


@click.command(
    name="recover",
    epilog=examples(
        "stepson recover md.son saved.son",
        "stepson recover 07/md.son saved.son --like 06/md.son",
        "stepson recover md.son flux.son --fields heat_flux,energy,temperature",
        "stepson recover https://host/md.son saved.son",
    ),
)
@click.argument("source", metavar="IN", type=named)
@click.argument("target", metavar="OUT", type=named)
@click.option(
    "--like",
    metavar="OTHER",
    type=named,
    help="A file with the same fields and atoms, if SCHEMA or METADATA of IN is damaged.",
)
@click.option("--torn", is_flag=True, help="Take whole blocks that were never committed.")
@click.option("--fields", metavar="NAME,NAME", help="Only these; default: all.")
@as_json
@with_terminal
def command(
    source: Path | str,
    target: Path | str,
    like: Path | str | None,
    torn: bool,
    fields: str | None,
    as_json: bool,
    terminal: Terminal,
) -> int:
    """Save everything that is sound of a damaged trajectory.

    Reads IN, a file or a URL, twice, in bounded memory, never changes it, and writes a new,
    sealed file OUT.
    Chunks are copied as they stand, so each sample of OUT is bit for bit that of IN.

    Nothing sound is dropped and nothing is invented. Where a whole block is lost, its
    frames are missing. Where a frame has lost some of its fields, these become irregular in
    OUT: their own steps tell where they have samples, and a Green-Kubo analysis takes no
    correlation across the gap. The metadata of OUT say under "recovered" what was lost.

    Exits with 0 if nothing was lost, with 1 if something was. An interrupted recovery
    leaves no OUT; give the same command again.
    """
    import stepson
    from stepson_cli.progress import reading

    _check_one_file(source)
    names = None if fields is None else [each.strip() for each in fields.split(",")]
    with _removed_on_term(), reading(terminal, str(source)) as listener:
        done = stepson.recover(
            source,
            target,
            lambda now, total: listener(short(source), now, total),
            like=like,
            torn=torn,
            fields=names,
        )
    if as_json:
        terminal.show_json(done.to_map())
    else:
        from stepson_cli.views.recover import report

        terminal.show(report(done))
    return 0 if done.complete else LOST


def _check_one_file(source: Path | str) -> None:
    """Refuse what is no name of a file.

    Raises:
        FormatError: it is a folder, a glob, or empty.
    """
    from stepson.errors import FormatError
    from stepson.series.names import is_pattern

    if not source:
        raise FormatError("an empty name; give a file")
    if is_pattern(source):
        raise FormatError(f"{source} is a folder or a glob; give one file at a time")


@contextmanager
def _removed_on_term() -> Iterator[None]:
    """On SIGTERM, leave as on Ctrl-C: what was begun is removed."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
