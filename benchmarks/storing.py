"""What a format of the comparison does: write frames as they come, open, read in four ways.

Fields are float32 arrays by name, shape ``(frames, atoms, 3)``; lengths are Å, and what a
library wants otherwise is converted and counts. Libraries are imported when they are used,
so that one that is not installed is found out then.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Batch = dict[str, Array]
BATCH = 128
XTC_BOUND = 5e-3  # Å: it is told nm x 1000


class Reader(ABC):
    """An open file; `frames` is known from the start."""

    frames: int

    @abstractmethod
    def scan(self) -> Iterator[Batch]:
        """All frames of all fields, in order."""

    def scan_all(self) -> int:
        """Have every frame handed over; how many there were."""
        return sum(len(batch["positions"]) for batch in self.scan())

    @abstractmethod
    def frame(self, k: int) -> Array:
        """Positions of one frame."""

    def atom(self, i: int) -> Array:
        """Positions of one atom in all frames, shape ``(frames, 3)``."""
        return np.concatenate([batch["positions"][:, i] for batch in self.scan()])

    def close(self) -> None:  # noqa: B027  # most have nothing to do
        """Let go of the file."""


class Writer(ABC):
    """A file that grows."""

    @abstractmethod
    def add(self, batch: Batch) -> None:
        """Append frames."""

    def flush(self) -> None:  # noqa: B027  # most have nothing to do
        """What a careful program calls now and then, where there is something to call."""

    def close(self) -> None:  # noqa: B027  # most have nothing to do
        """Finish the file."""


class Format(ABC):
    """A way to store frames."""

    name: str
    package: str
    """Whose version is reported."""
    bound: float | None = None
    """Largest error of a position, Å; None where float32 is kept."""
    only_positions = False
    most: int | None = None
    """Frames that are enough where a format is slow."""
    suffix = ".dat"
    cores = 1

    def ready(self) -> contextlib.AbstractContextManager[None]:
        """Around all use: what is not to be timed."""
        return contextlib.nullcontext()

    @abstractmethod
    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        """Start a file for `frames` frames of this kind."""

    @abstractmethod
    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        """Open a file."""


class Calls(Writer):
    """A writer made of functions."""

    def __init__(
        self,
        add: Callable[[Batch], object],
        close: Callable[[], object],
        flush: Callable[[], object] = lambda: None,
    ) -> None:
        self._add, self._close, self._flush = add, close, flush

    def add(self, batch: Batch) -> None:
        self._add(batch)

    def flush(self) -> None:
        self._flush()

    def close(self) -> None:
        self._close()
