"""What was recorded at one step."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.errors import SchemaError
from stepson.index import Unit
from stepson.reader import Reader

__all__ = ["Frame"]

Array = NDArray[Any]


class Frame:
    """What was recorded at one step: ``frame.positions`` is None where not due."""

    def __init__(
        self,
        reader: Reader,
        step: int,
        timestep: Callable[[], float],
        names: Collection[str] | None = None,
    ) -> None:
        self._reader = reader
        self._timestep = timestep
        self._names = reader.schema.places if names is None else names
        self.step = step

    @property
    def time(self) -> float:
        """Of the frame, fs."""
        return self.step * self._timestep()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that are due here."""
        return tuple(n for n in self._names if self._find(n) is not None)

    def _find(self, name: str) -> tuple[Unit, int] | None:
        """The unit that holds the sample of a field, and its number there."""
        unit = self._reader.unit_of_step(self.step)
        if unit is None:
            return None
        steps = self._reader.steps(unit, self._reader.schema.cadence_of[name])
        found = int(np.searchsorted(steps, self.step))
        return (unit, found) if found < len(steps) and steps[found] == self.step else None

    def __getitem__(self, name: str) -> Array | None:
        if name not in self._names:
            self._reader.schema.field(name)
            raise SchemaError(f"field {name!r} is not in all files", field=name)
        place = self._find(name)
        if place is None:
            return None
        unit, number = place
        return np.array(self._reader.values(unit, name, (number, number + 1))[0])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(f"a frame of this trajectory has no {name!r}")
        return self[name]

    def __repr__(self) -> str:
        return f"<stepson.Frame step {self.step}: {', '.join(self.fields)}>"
