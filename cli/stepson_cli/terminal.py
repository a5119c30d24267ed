"""The terminal: one object that knows verbosity, colour, width, and where words go.

Results go to stdout, everything said on the way to stderr: ``stepson gk ... > table.txt``
keeps the table and still shows progress. A stream that is no terminal gets plain lines
without control codes; ``NO_COLOR`` and ``TERM=dumb`` are honoured. rich is imported when
it is needed.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["PALETTE", "Terminal", "as_json", "examples", "with_terminal"]

P = ParamSpec("P")
R = TypeVar("R")

# The one palette. Names say what a thing is, never how it looks.
PALETTE: Mapping[str, str] = {
    "title": "bold",
    "name": "cyan",
    "value": "default",
    "result": "bold",
    "quiet": "bright_black",
    "good": "green",
    "warning": "yellow",
    "bad": "bold red",
    "command": "bold cyan",
    "bar.done": "cyan",
    "bar.left": "bright_black",
    "curve": "cyan",
    "band": "bright_black",
    "mark": "yellow",
}
PLAIN_WIDTH = 100  # of output that goes to a file or a pipe, where COLUMNS is not set


class Terminal:
    """Where a command speaks.

    Args:
        verbosity: -1 results and errors only, 0 normal, 1 details.
        out: stream of results, stdout by default.
        err: stream of everything else, stderr by default.
    """

    def __init__(
        self, verbosity: int = 0, *, out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self.verbosity = verbosity
        self._out = sys.stdout if out is None else out
        self._err = sys.stderr if err is None else err

    def __repr__(self) -> str:
        return f"Terminal(verbosity={self.verbosity}, live={self.live})"

    @cached_property
    def out(self) -> "Console":
        """The console of results."""
        return _console(self._out)

    @cached_property
    def err(self) -> "Console":
        """The console of messages and progress."""
        return _console(self._err)

    @property
    def live(self) -> bool:
        """Whether a display that redraws itself is welcome."""
        return self.verbosity >= 0 and _can_redraw(self._err)

    @property
    def unicode(self) -> bool:
        """Whether stdout can show braille patterns and Greek letters."""
        return (getattr(self._out, "encoding", None) or "").lower().startswith("utf")

    def show(self, result: "RenderableType") -> None:
        """Print a result."""
        _print(self.out, result)

    def show_json(self, result: object) -> None:
        """Print a result as JSON: unstyled, and null for what is not a finite number."""
        text = json.dumps(
            _plain(result), indent=2, ensure_ascii=not self.unicode, allow_nan=False
        )
        self._out.write(text + "\n")

    def say(self, message: "RenderableType", *, verbosity: int = 0) -> None:
        """Tell the person at the terminal something.

        Args:
            message: what.
            verbosity: least one at which it is said; -1 is always.
        """
        if self.verbosity >= verbosity:
            _print(self.err, message)

    def warn(self, message: str) -> None:
        """Say what the person should know even under ``-q``."""
        from rich.text import Text

        _print(self.err, Text.assemble(("Warning: ", "warning"), message))


def with_terminal(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command ``-q`` and ``-v``, and the `Terminal` that follows from them."""

    @click.option("-q", "--quiet", is_flag=True, help="Only results, warnings, errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Print details too.")
    @functools.wraps(function)
    def command(*args: Any, quiet: bool, verbose: bool, **options: Any) -> R:
        return function(*args, terminal=Terminal(int(verbose) - int(quiet)), **options)

    return command


def as_json(function: Callable[P, R]) -> Callable[P, R]:
    """Give a command ``--json``."""
    option = click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON."
    )
    return option(function)


def examples(*lines: str) -> str:
    r"""Lay out the examples of a command's help; ``\b`` keeps click from refilling them."""
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def _console(stream: TextIO) -> "Console":
    from rich.console import Console
    from rich.theme import Theme

    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a Latin-1 terminal shows ? and goes on
    is_terminal = _is_terminal(stream)
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) == 0:
        del os.environ["COLUMNS"]  # rich would print nothing at all
    plain_width = None if is_terminal or "COLUMNS" in os.environ else PLAIN_WIDTH
    return Console(
        file=stream,
        theme=Theme(dict(PALETTE)),
        highlight=False,
        markup=False,
        emoji=False,
        width=plain_width,
        force_terminal=is_terminal,
    )


def _print(console: "Console", what: "RenderableType") -> None:
    """Print; text is filled to the width of a terminal, and one line anywhere else."""
    from rich.text import Text

    filled = console.is_terminal and not console.is_dumb_terminal
    console.print(what, soft_wrap=isinstance(what, str | Text) and not filled)


def _is_terminal(stream: TextIO) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _can_redraw(stream: TextIO) -> bool:
    dumb = os.environ.get("TERM", "") in ("", "dumb", "unknown")
    return _is_terminal(stream) and not dumb


def _plain(value: Any) -> Any:
    """Turn a result into what JSON knows."""
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
