"""Where the workers of a run come from: a dask cluster that is there, or processes here."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gkflux.dynamics.cluster import Team
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.remote import Recipe
from gkflux.parallel import connect
from gkflux.processes import processes, quiet

__all__ = ["team"]


@contextmanager
def team(
    context: RunContext,
    *,
    device: str,
    recipe: Recipe,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[Team | None]:
    """Have workers for the time of a `with`; None: all is computed in this process.

    Args:
        context: of the run.
        device: on the workers.
        recipe: makes atoms and potential there.
        workers: processes to start here; None or 1: none.
        scheduler: address or scheduler file of a cluster instead.

    Raises:
        FluxError: no cluster there, or a worker process does not start.
    """
    if scheduler is None and (workers is None or workers == 1):
        yield None
        return
    with ExitStack() as stack:
        # what dask logs when a worker dies is said by us, in one line
        stack.enter_context(quiet())
        if scheduler is None:
            assert workers is not None
            scheduler = stack.enter_context(processes(workers, device=device))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client = connect(scheduler)
        stack.callback(client.close)
        for warning in caught:
            if "Version" in warning.category.__name__:
                context.messages.append(_one_line(warning.message))
        yield Team(client, context, device, recipe)


def _one_line(message: object) -> str:
    rows = [line.split("|")[1:-1] for line in str(message).splitlines() if "|" in line]
    names = [row[0].strip() for row in rows[1:] if row]
    return f"versions differ between here, scheduler and workers: {', '.join(names)}"
