"""Independent runs that were opened together: a folder, a glob, a list."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload
from weakref import WeakValueDictionary

import numpy as np

from stepson.closing import Closing
from stepson.column import whole
from stepson.errors import SchemaError
from stepson.picture import composition, size_text, table_text, time_text
from stepson.series.joined import Joined
from stepson.series.member import Member, SourceOf
from stepson.series.names import Name
from stepson.trajectory import Trajectory

__all__ = ["Ensemble", "Run"]


@dataclass(frozen=True, eq=False)
class Run:
    """Files that make one trajectory, as of the first look at them."""

    name: str
    members: tuple[Member, ...]
    frames: int
    """Those that count."""
    source_of: SourceOf
    remarks: tuple[str, ...] = ()
    """What does not fit between the files."""
    strangers: tuple[int, ...] = ()
    """Numbers of files that did not go on from what the one before them holds now."""
    limits: tuple[int | None, ...] = (None,)
    """Of each file, the step from which on its frames do not count; None: all do."""

    def open(self) -> Trajectory:
        """The trajectory, opened now."""
        if len(self.members) > 1:
            return Joined(self.members, self.source_of)
        where = self.members[0].where
        return Trajectory(self.source_of(where), where)

    @property
    def paths(self) -> tuple[Name, ...]:
        """Of the files, in the order of their steps."""
        return tuple(each.where for each in self.members)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(each.size for each in self.members)

    @property
    def torn_bytes(self) -> int:
        """Bytes behind the last commits."""
        return sum(each.torn_bytes for each in self.members)

    @property
    def steps(self) -> tuple[int, int] | None:
        """The first and the last; None without frames."""
        known = [m for m in self.members if m.first is not None and m.last is not None]
        return (known[0].first or 0, known[-1].last or 0) if known else None


class Ensemble(Closing, Sequence[Trajectory]):
    """Runs by number or by name; each is opened when it is asked for.

    Iterating over a thousand runs holds one of them open, unless they are kept.
    """

    def __init__(self, runs: Sequence[Run], remarks: Sequence[str] = ()) -> None:
        self.runs = tuple(runs)
        """What is known of each run without opening it again."""
        self.remarks = tuple(remarks)
        """What was said when they were opened."""
        self._open: WeakValueDictionary[int, Trajectory] = WeakValueDictionary()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the runs: from their paths, as short as they can be."""
        return tuple(each.name for each in self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, key: int | str) -> Trajectory: ...
    @overload
    def __getitem__(self, key: slice) -> "Ensemble": ...
    def __getitem__(self, key: int | str | slice) -> "Trajectory | Ensemble":
        if isinstance(key, slice):
            return Ensemble(self.runs[key])
        number = self._number(key)
        found = self._open.get(number)
        if found is None:
            found = self._open[number] = self.runs[number].open()
        return found

    def _number(self, key: int | str) -> int:
        if isinstance(key, str):
            if key not in self.names:
                raise SchemaError(
                    f"no run {key!r} in this ensemble; it has {_some(self.names)}"
                )
            return self.names.index(key)
        key = whole(key, "the number of a run")
        if not -len(self) <= key < len(self):
            raise IndexError(f"run {key} of {len(self)}")
        return key % len(self)

    def __contains__(self, key: object) -> bool:
        """Whether a run has this name."""
        return key in self.names if isinstance(key, str) else super().__contains__(key)

    def items(self) -> Iterator[tuple[str, Trajectory]]:
        """Names and runs."""
        return ((name, self[i]) for i, name in enumerate(self.names))

    @cached_property
    def common(self) -> Mapping[str, Any]:
        """What stands in the metadata of all runs, the same in each."""
        found: dict[str, Any] | None = None
        for run in self:
            metadata = run.metadata
            if found is None:
                found = dict(metadata)
            found = {
                key: value
                for key, value in found.items()
                if key in metadata and _same(value, metadata[key])
            }
        return found or {}

    def __repr__(self) -> str:
        return f"<stepson.Ensemble: {len(self)} runs, {_some(self.names)}>"

    def __str__(self) -> str:
        size = size_text(sum(each.size for each in self.runs))
        frames = sum(each.frames for each in self.runs)
        rows = [("run", "atoms", "frames", "steps", "time", "size", "state")]
        remarks = [f"{r.name}: {line}" for r in self.runs for line in r.remarks]
        return "\n".join(
            [
                f"{len(self)} runs, {frames:,} frames, {size}",
                "",
                *table_text([*rows, *map(_row, self.runs)]),
                *([""] if remarks else []),
                *(f"  {line}" for line in remarks),
            ]
        )

    def close(self) -> None:
        """Let go of the runs that are open."""
        for run in list(self._open.values()):
            run.close()
        self._open.clear()


def _row(run: Run) -> tuple[str, ...]:
    first = run.members[0]
    numbers = () if first.numbers is None else first.numbers.tolist()
    steps = run.steps
    span = "-"
    if steps and first.timestep is not None:
        span = time_text((steps[1] - steps[0]) * first.timestep)
    state = "sealed" if run.members[-1].sealed else "open"
    if run.torn_bytes:
        state += f", {run.torn_bytes} bytes uncommitted"
    if len(run.members) > 1:
        state += f", {len(run.members)} files"
    return (
        run.name,
        composition(numbers) or str(first.schema.n_atoms),
        f"{run.frames:,}",
        f"{steps[0]} to {steps[1]}" if steps else "-",
        span,
        size_text(run.size),
        state,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 8 else f"{names[0]} ... {names[-1]}"


def _same(mine: Any, theirs: Any) -> bool:
    """Whether two values of metadata are the same, arrays and nested ones too."""
    if isinstance(mine, np.ndarray) or isinstance(theirs, np.ndarray):
        return np.array_equal(mine, theirs)
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return mine.keys() == theirs.keys() and all(_same(mine[k], theirs[k]) for k in mine)
    if isinstance(mine, list) and isinstance(theirs, list):
        return len(mine) == len(theirs) and all(map(_same, mine, theirs))
    return bool(mine == theirs)
