"""The command group, and the one place where an error becomes a line and an exit code.

========  ==========================================================================
status    meaning
========  ==========================================================================
0         done, or nothing left to do
1         an error of ours or of the machine: one line on stderr, what to do next in it
2         the command line is wrong
130, 143  stopped by Ctrl-C or by SIGTERM, as shells and schedulers expect it
========  ==========================================================================

An exception that nobody expected is a bug, and keeps its traceback. Nothing here imports
numpy, rich or the packages below: ``stepson --help`` answers at once.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from stepson_cli.start import hand_over

__all__ = ["cli", "main"]

COMMANDS = ("run", "watch", "gk", "flux", "info", "verify", "recover", "demo")
INTERRUPTED = 130
PLAIN_WARNING = warnings.formatwarning
# What `stepson[md]` brings; `pip install stepson` alone has none of it.
PHYSICS = frozenset(
    {
        *("torch", "ase", "vesin", "safetensors", "dask", "distributed", "scipy"),
        *("matplotlib", "pydantic", "numba"),
    }
)


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``stepson_cli.commands.<name>`` and return its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"stepson_cli.commands.{cmd_name}")
        hand_over()
        command: click.Command = module.command
        return command


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"stepson {version('stepson')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A first look, in about two minutes: stepson demo",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Thermal conductivity from machine-learned molecular dynamics."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    _open_closed_streams()
    warnings.formatwarning = _format_warning
    try:
        status = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="stepson",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.exceptions.Abort:
        return _say("stopped", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        return _leave_quietly()
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        return _say(f"{click.style('Error:', fg='red', bold=True)} {line}", 1)
    return status if isinstance(status, int) else 0


def _open_closed_streams() -> None:
    """Give words somewhere to go where the caller closed a stream, as ``>&-`` does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _format_warning(
    message: Warning | str, category: type[Warning], *rest: Any, **more: Any
) -> str:
    """Put a warning of ours into a line, without the place in the code."""
    if category.__module__.partition(".")[0] in ("stepson", "gkflux"):
        return f"Warning: {message}\n"
    return PLAIN_WARNING(message, category, *rest, **more)


def explain(error: Exception) -> str | None:
    """Put an error that a user can cause into one line; None for a bug."""
    if isinstance(error, ModuleNotFoundError):
        return _missing(error)
    if isinstance(error, OSError):
        return _machine(error)
    if isinstance(error, MemoryError):
        return _memory(error)
    from stepson.errors import StepsonError

    return str(error) if isinstance(error, StepsonError) else None


def _missing(error: ModuleNotFoundError) -> str | None:
    name = (error.name or "").partition(".")[0]
    if name not in PHYSICS:
        return None
    return f"this command needs {name}, which is not installed: pip install 'stepson[md]'"


def _memory(error: MemoryError) -> str:
    said = str(error).rstrip(".") or "there is no memory left"
    return f"out of memory: {said}; take fewer atoms, replicas or processes at a time"


def _machine(error: OSError) -> str | None:
    import errno

    again = "give the same command again: it goes on where it stopped"
    advice = {
        errno.ENOENT: "check the path",
        errno.EACCES: "check the permissions, or choose another folder with -o",
        errno.ENOTDIR: "a file is in the way of a folder; choose another folder with -o",
        errno.EPERM: "choose another folder with -o",
        errno.EROFS: "choose another folder with -o",
        errno.ENOSPC: f"free some space, then {again}",
        errno.EDQUOT: f"free some quota, then {again}",
        errno.EIO: "check the disk, then `stepson verify` the file",
    }
    if error.errno is None:
        return None
    what = os.strerror(error.errno).lower()
    where = "" if error.filename is None else f"{os.fspath(error.filename)}: "
    return "; ".join(filter(None, [where + what, advice.get(error.errno)]))


def _say(line: str, status: int) -> int:
    click.echo(line, err=True)
    return status


def _leave_quietly() -> int:
    """Point stdout at nothing, because its reader has gone, so that the exit is silent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
