"""How many threads a call should use, found by trying.

A parallel loop is as fast as its last thread. On a quiet machine all cores are best; for a
hundred atoms on a busy one, threads that wait for each other make a call fifty times slower
than one thread alone. The passes of the engine give the same bits with any number of
threads, so the clock may choose.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numba

__all__ = ["ThreadChoice"]

# calls between two trials of the slower choice, times how much slower it is
PATIENCE = 100
# weight of the newest time in the running mean
NEWEST = 0.2


class ThreadChoice:
    """Chooses between all threads and one by their running mean time."""

    def __init__(self) -> None:
        self._choices = (numba.get_num_threads(), 1)
        self._means: list[float | None] = [None, None]
        self._wait = 0
        # what is compiled or read from a cache on the first call says nothing
        self._fresh = True

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Run a call with the number of threads that seems best, and learn from it."""
        now = self._choose()
        before = numba.get_num_threads()
        numba.set_num_threads(min(self._choices[now], before))
        start = perf_counter()
        try:
            yield
        finally:
            numba.set_num_threads(before)
        if self._fresh:
            self._fresh = False
            return
        taken, mean = perf_counter() - start, self._means[now]
        self._means[now] = taken if mean is None else mean + NEWEST * (taken - mean)

    def _choose(self) -> int:
        """The faster one, now and then the other, rarely if it is much slower."""
        many, one = self._means
        if many is None or one is None:
            return 0 if many is None else 1
        best = 0 if many <= one else 1
        self._wait += 1
        if self._wait < PATIENCE * max(many, one) / min(many, one):
            return best
        self._wait = 0
        return 1 - best
