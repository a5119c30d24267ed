"""What was recorded at one step."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.reader import Reader

__all__ = ["Frame"]

Array = NDArray[Any]


class Frame:
    """What was recorded at one step: ``frame.positions`` is None where not due."""

    def __init__(self, reader: Reader, step: int, timestep: Callable[[], float]) -> None:
        self._reader = reader
        self._timestep = timestep
        self.step = step

    @property
    def time(self) -> float:
        """Of the frame, fs."""
        return self.step * self._timestep()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that are due here."""
        return tuple(n for n in self._reader.schema.places if self[n] is not None)

    def __getitem__(self, name: str) -> Array | None:
        reader = self._reader
        field = reader.schema.field(name)
        cadence = reader.schema.cadence_of[name]
        unit = reader.unit_of_step(self.step)
        if unit is None:
            return None
        steps = reader.steps(unit, cadence)
        found = int(np.searchsorted(steps, self.step))
        if found == len(steps) or steps[found] != self.step:
            return None
        values = reader.values(unit, field.name, (found, found + 1))
        return np.array(values[0])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._reader.schema.places:
            raise AttributeError(f"a frame of this file has no {name!r}")
        return self[name]

    def __repr__(self) -> str:
        return f"<stepson.Frame step {self.step}: {', '.join(self.fields)}>"
