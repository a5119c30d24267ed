"""One line that shows how far a long reading is, and disappears when it is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stepson_cli.terminal import Terminal

__all__ = ["Listener", "reading"]

Listener = Callable[[str, int, int], None]
"""Takes what is done at the moment, how much is done, and of how much."""


@contextmanager
def reading(terminal: Terminal, what: str) -> Iterator[Listener]:
    """Show a bar on a terminal; off one, a line each time under ``-v``.

    Args:
        terminal: where.
        what: is read, until the listener says more.
    """
    if not terminal.live:
        yield lambda now, done, total: terminal.say(
            f"{now} ({done} of {total})", verbosity=1
        )
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    bar = BarColumn(complete_style="bar.done", style="bar.left", finished_style="bar.done")
    columns = (bar, TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=terminal.err, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda now, done, total: shown.update(
            task, description=now, completed=done, total=total
        )
