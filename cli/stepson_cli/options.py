"""Options that several commands have, in the same words."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["refuse_both", "shared", "where_unknown"]

Command = TypeVar("Command", bound=Callable[..., Any])


def shared(command: Command) -> Command:
    """Give a command that reads trajectories ``--workers`` and ``--scheduler``."""
    scheduler = click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Share it among the workers of a dask cluster: its address, or its file.",
    )
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Share the work among N processes; by default among threads, one a core.",
    )
    return workers(scheduler(command))


def refuse_both(workers: int | None, scheduler: str | None) -> None:
    """Refuse processes here and a cluster at once.

    Raises:
        UsageError: both are given.
    """
    if workers is not None and scheduler is not None:
        raise click.UsageError("give --workers or --scheduler, not both")


def where_unknown(command: Command) -> Command:
    """Give a command ``--temperature`` and ``--volume``, for files that lack them."""
    positive = click.FloatRange(min=0, min_open=True)
    volume = click.option(
        "--volume", type=positive, metavar="Å³", help="Where the files have no cell."
    )
    temperature = click.option(
        "--temperature", type=positive, metavar="K", help="Where the files have none."
    )
    return temperature(volume(command))
