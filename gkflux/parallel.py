"""Work side by side: threads of this process, or the workers of a dask cluster.

Whatever does the work, results come in the order of the items and are pooled in that
order, so one thread, many threads and a cluster give the same bits; at most two items a
worker are in flight, so memory stays bounded; a worker of a cluster that is lost only
costs its items again.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gkflux.errors import FluxError
from gkflux.processes import cores, processes, quiet

__all__ = ["Pool", "connect", "in_order", "pool"]

In = TypeVar("In")
Out = TypeVar("Out")
TIMEOUT = 30
"""Seconds to wait for a scheduler."""
RETRIES = 3
"""Times that an item is computed again when its worker is lost."""


class Pool(Protocol):
    """Something that computes elsewhere."""

    width: int
    """Items that are computed at the same time."""

    def submit(self, work: Callable[[In], Out], item: In) -> Any:
        """Start one item, return a future with a method `result`."""


class _Threads:
    def __init__(self, workers: int) -> None:
        self.width = workers
        self.executor = ThreadPoolExecutor(max_workers=workers)

    def submit(self, work: Callable[[In], Out], item: In) -> Any:
        return self.executor.submit(work, item)


class _Cluster:
    def __init__(self, client: Any) -> None:
        self.client = client
        self.width = max(1, sum(client.nthreads().values()))

    def submit(self, work: Callable[[In], Out], item: In) -> Any:
        return self.client.submit(work, item, pure=False, retries=RETRIES)


@contextmanager
def pool(
    *, threads: int | None = None, workers: int | None = None, scheduler: str | None = None
) -> Iterator[Pool | None]:
    """Open a pool for the time of a `with`.

    Args:
        threads: of this process; one means no pool, None as many as there are cores.
        workers: processes of this machine instead.
        scheduler: address (``tcp://host:8786``) or scheduler file of a dask cluster that
            sees the same files, instead.

    Raises:
        FluxError: no cluster there, or a worker process does not start.
    """
    if scheduler is not None or workers is not None:
        with ExitStack() as stack:
            stack.enter_context(quiet())
            if scheduler is None:
                scheduler = stack.enter_context(processes(workers or 1))
            client = connect(scheduler)
            stack.callback(client.close)
            yield _Cluster(client)
        return
    threads = cores() if threads is None else threads
    if threads > 1:
        pool = _Threads(threads)
        with pool.executor:
            yield pool
    else:
        yield None


def connect(scheduler: str) -> Any:
    """Return a client of the cluster at an address, or named by a scheduler file.

    Raises:
        FluxError: no cluster there.
    """
    from dask import distributed

    client: Any = distributed.Client  # untyped
    try:
        if Path(scheduler).is_file():
            return client(scheduler_file=scheduler, timeout=TIMEOUT)
        return client(scheduler, timeout=TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FluxError(
            f"no dask scheduler at {scheduler}: {reason}; start one with `dask scheduler`"
        ) from error


def in_order(
    work: Callable[[In], Out], items: Iterable[In], where: Pool | None
) -> Generator[Out]:
    """Give the results in the order of the items, two items a worker in flight at most."""
    if where is None:
        yield from map(work, items)
        return
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(where.submit(work, item))
            if len(waiting) >= 2 * where.width:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # nobody wants the rest
        for future in waiting:
            future.cancel()
