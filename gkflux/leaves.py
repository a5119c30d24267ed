"""Runs read in leaves, by whoever is free, and put together again in their order.

A leaf is a range of samples that depends on the run alone, not on how many read it. Leaves
are computed elsewhere, two a worker at most at a time, come back in order, and are merged
in order; so one thread, many threads and a cluster give the same bits, and memory stays
bounded. What the whole leaves of a run have given so far is kept now and then: a reduction
that was killed goes on from there, and so does one of a run that has grown.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from operator import attrgetter
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gkflux.parallel import Pool, in_order
from gkflux.runs import Run
from gkflux.states import States

__all__ = ["LEAF", "Leaf", "Pass", "Tally", "fold"]

LEAF = 1 << 20
"""Samples of a leaf."""
KEEP_SECONDS = 10.0
"""Between two times that a state is kept."""
State = TypeVar("State")
Tally = Callable[[str, int, int], None]
"""Called with the name of a run, the leaves that are done, and of how many."""


class Leaf(NamedTuple):
    """A range of samples."""

    start: int
    stop: int
    whole: bool
    """Whether it stays as it is when the run grows; behind one that does not, none does."""


class Pass(Protocol[State]):
    """One pass over one run; it travels to where leaves are read."""

    @property
    def run(self) -> Run:
        """What is read."""

    @property
    def leaves(self) -> Sequence[Leaf]:
        """In order, without gaps in a contiguous run."""

    def read(self, leaf: Leaf) -> State:
        """Read one leaf."""

    def merge(self, first: State, second: State) -> State:
        """Put what was found in two ranges together; `second` follows `first`."""

    def key(self) -> dict[str, Any]:
        """Everything beside the run that a state depends on."""


def fold(
    passes: Sequence[Pass[State]],
    *,
    where: Pool | None = None,
    states: States | None = None,
    tally: Tally | None = None,
) -> list[State]:
    """Read all runs and give what each of them holds.

    Args:
        passes: one a run.
        where: reads leaves side by side.
        states: what was read before, and where to keep what is read now.
        tally: called after every leaf.
    """
    folds = [_Fold(one, states) for one in passes]
    owners = [one for one in folds for _ in one.missing]
    items = [(one.work, leaf) for one in folds for leaf in one.missing]
    results = in_order(_read, items, where)
    for done, (owner, (work, leaf)) in enumerate(zip(owners, items, strict=True), start=1):
        owner.take(leaf, next(results))
        if tally is not None:
            tally(work.run.name, done, len(items))
    return [one.finish() for one in folds]


def _read(item: tuple[Pass[State], Leaf]) -> State:
    work, leaf = item
    return work.read(leaf)


class _Fold(Generic[State]):
    """Merges the leaves of one run, and keeps what the whole ones have given."""

    def __init__(self, work: Pass[State], states: States | None) -> None:
        self.work = work
        self._states = states
        self._state: State | None = None
        self._whole: tuple[int, State] | None = None
        self._kept_at = monotonic()
        leaves = list(work.leaves)
        self.missing = leaves if states is None else leaves[self._resume(leaves, states) :]

    def _resume(self, leaves: Sequence[Leaf], states: States) -> int:
        """Take what was kept, return how many leaves that makes up for."""
        kept = states.load(self.work.run, self.work.key())
        if kept is None:
            return 0
        ends = [leaf.stop for leaf in takewhile(attrgetter("whole"), leaves)]
        if kept.stop not in ends:
            return 0
        self._state = kept.state
        return ends.index(kept.stop) + 1

    def take(self, leaf: Leaf, state: State) -> None:
        """Take the next leaf."""
        before = self._state
        self._state = state if before is None else self.work.merge(before, state)
        if leaf.whole:
            self._whole = (leaf.stop, self._state)
            if monotonic() > self._kept_at + KEEP_SECONDS:
                self._keep()

    def finish(self) -> State:
        """Keep what can be kept, and give what the run holds."""
        self._keep()
        assert self._state is not None
        return self._state

    def _keep(self) -> None:
        if self._states is not None and self._whole is not None:
            self._states.store(self.work.run, self.work.key(), *self._whole)
            self._whole = None
        self._kept_at = monotonic()
