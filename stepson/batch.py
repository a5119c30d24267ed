"""What a stream hands out: samples of some fields over the same range of steps."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.schema import Schema

__all__ = ["Batch", "Waiting"]

Array = NDArray[Any]
Steps = NDArray[np.int64]


class Batch(Mapping[str, Array]):
    """Samples of some fields over the same range of steps."""

    def __init__(self, values: dict[str, Array], steps: dict[str, Steps]) -> None:
        self._values = values
        self.steps = steps
        """Of each field."""

    def __getitem__(self, name: str) -> Array:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}{array.shape}" for name, array in self._values.items())
        return f"<stepson.Batch {shapes}>"


class Waiting:
    """Samples that were read and do not fill a batch yet."""

    def __init__(self, schema: Schema, names: tuple[str, ...], frames: int) -> None:
        self._frames = frames
        fields = [schema.field(name) for name in names]
        self._none = {
            f.name: np.empty((0, *f.sample_shape(schema.n_atoms)), f.dtype) for f in fields
        }
        self._steps: dict[str, list[Steps]] = {name: [] for name in names}
        self._values: dict[str, list[Array]] = {name: [] for name in names}

    def add(self, name: str, steps: Steps, values: Array) -> None:
        """Take samples of a field that follow those taken before."""
        if len(steps):
            self._steps[name].append(steps)
            self._values[name].append(values)

    def full(self, end: int) -> Iterator[Batch]:
        """Batches that are complete, given all samples before step `end`."""
        while any(sum(map(len, each)) >= self._frames for each in self._steps.values()):
            joined = {name: _join(each) for name, each in self._steps.items()}
            cut = min(
                (int(s[self._frames]) for s in joined.values() if len(s) > self._frames),
                default=end,
            )
            yield self._cut(joined, cut)

    def rest(self) -> Iterator[Batch]:
        """What is left at the end."""
        if any(self._steps.values()):
            joined = {name: _join(each) for name, each in self._steps.items()}
            yield self._cut(joined, max(int(s[-1]) for s in joined.values() if len(s)) + 1)

    def _cut(self, joined: dict[str, Steps], step: int) -> Batch:
        """Take everything before `step`."""
        values, steps = {}, {}
        for name, found in joined.items():
            count = int(np.searchsorted(found, step))
            parts = self._values[name]
            data = (
                parts[0] if len(parts) == 1 else np.concatenate(parts or [self._none[name]])
            )
            steps[name] = found[:count]
            values[name] = data[:count]
            self._steps[name] = [found[count:]] if count < len(found) else []
            self._values[name] = [] if count == len(found) else [data[count:]]
        return Batch(values, steps)


def _join(parts: list[Steps]) -> Steps:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
