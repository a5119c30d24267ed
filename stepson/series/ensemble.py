"""Independent runs that were opened together: a folder, a glob, a list."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self, overload
from weakref import WeakValueDictionary

import numpy as np

from stepson.column import whole
from stepson.errors import FormatError, SchemaError, TornError
from stepson.opening import Opened, open_named
from stepson.picture import composition, size_text, table_text, time_text
from stepson.series.agreement import split
from stepson.series.borders import mention
from stepson.series.joined import Joined
from stepson.series.lineage import sort_chains, strangers
from stepson.series.member import Known, Member, Shelf, SourceOf
from stepson.series.names import Name, Named
from stepson.trajectory import Trajectory

__all__ = ["Ensemble", "Run", "assemble"]

AT_ONCE = 8
"""URLs whose ends are held at the same time."""


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


class Ensemble(Sequence[Trajectory]):
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def assemble(
    found: Sequence[Named],
    source_of: SourceOf,
    *,
    join: bool | None = None,
    strict: bool = False,
) -> Ensemble:
    """Look at each file once, and sort them into runs.

    Args:
        found: of `stepson.series.names.find`.
        source_of: opens a file.
        join: None: files are joined by the parents that they name; True: all into one run;
            False: each file is a run.
        strict: what would be a warning is an error, and so are uncommitted bytes.

    Returns:
        the runs; ``remarks`` are what the user should be told.

    Raises:
        FormatError: a file is no `.son`, or nothing is there.
        SchemaError: files that cannot be opened together, or not be joined.
    """
    asked = {each.where for each in found if each.asked}
    others = {each.where: each for each in found if each.where not in asked}
    wanted = [each for each in found if each.asked or each is others.get(each.where)]
    members, notes = _look(wanted, source_of)
    members, more = _without_copies(members, asked)
    notes += more
    chains, more = sort_chains(members, join)
    notes += more
    if not (join or strict):
        chains, more = _agreeing(chains)
        notes += more
    runs = [_run(chain, source_of) for chain in chains]
    notes += [_told(run, line) for run in runs for line in _brief(run.remarks)]
    if strict:
        _refuse(members, notes)
    return Ensemble(runs, notes)


def _look(found: Sequence[Named], source_of: SourceOf) -> tuple[list[Member], list[str]]:
    """Open each file once; what nobody named and is no trajectory is left out."""
    known, members, notes = Known(), [], []
    first: FormatError | None = None
    for each, opening in zip(found, _openings(found, source_of), strict=True):
        try:
            opened = opening()
            members.append(known.member(each, opened))
            opened.source.close()
        except FormatError as error:
            if each.asked:
                raise
            first = first or error
            notes.append(f"left out: {error}")
    if first is not None and not members:
        raise first
    return members, notes


def _without_copies(
    members: Sequence[Member], asked: Set[Name]
) -> tuple[list[Member], list[str]]:
    """Leave out copies that a glob or a folder brought; two that were named stay.

    Of several the one that was named stays, then the one with most frames, then the first.
    """
    kept: dict[str, Member] = {}
    for each in members:
        other = kept.setdefault(each.uuid, each)
        rank, known = ((m.where in asked, m.frames) for m in (each, other))
        if rank > known:
            kept[each.uuid] = each
    sound, notes = [], []
    for each in members:
        best = kept[each.uuid]
        if each is best or each.where in asked:
            sound.append(each)
        else:
            notes.append(f"left out: {each.where}, the same file as {best.where}")
    return sound, notes


def _openings(
    found: Sequence[Named], source_of: SourceOf
) -> Iterator[Callable[[], Opened]]:
    """Calls that give each file opened, or raise; several URLs are waited for at once."""

    def open_one(each: Named) -> Opened:
        return open_named(source_of(each.where), each.where)

    if sum(isinstance(each.where, str) for each in found) < 2:
        yield from (partial(open_one, each) for each in found)
        return
    with ThreadPoolExecutor(AT_ONCE, "stepson-open") as pool:
        for low in range(0, len(found), AT_ONCE):
            part = found[low : low + AT_ONCE]
            yield from [pool.submit(open_one, each).result for each in part]


def _agreeing(
    chains: Sequence[Sequence[Member]],
) -> tuple[list[list[Member]], list[str]]:
    """Cut chains where files differ: a bad one does not hide the other runs."""
    pieces: list[list[Member]] = []
    notes: list[str] = []
    for chain in chains:
        found, why = split(chain)
        pieces += found
        notes += why
    return pieces, notes


def _run(chain: Sequence[Member], source_of: SourceOf) -> Run:
    members = tuple(chain)
    if len(members) == 1:
        return Run(members[0].label, members, members[0].frames, source_of)
    joined = Joined(members, source_of)
    strange = dict(strangers(members, Shelf(members, source_of)))
    seams = mention([*joined.gaps, *joined.overlaps])
    return Run(
        name=members[0].label,
        members=members,
        frames=len(joined),
        source_of=source_of,
        remarks=(*strange.values(), *seams),
        strangers=tuple(strange),
        limits=joined.limits,
    )


def _told(run: Run, line: str) -> str:
    """A line that says which run it is about, unless it begins with one of its files."""
    named = line.startswith(tuple(f"{path} " for path in run.paths))
    return line if named else f"{run.paths[0]}: {line}"


def _brief(remarks: Sequence[str]) -> list[str]:
    """One warning for a run, however many files it has."""
    if len(remarks) < 2:
        return list(remarks)
    return [f"{remarks[0]} (and {len(remarks) - 1} more, see .gaps and .overlaps)"]


def _refuse(members: Sequence[Member], notes: Sequence[str]) -> None:
    for each in members:
        if each.torn_bytes:
            raise TornError(valid_until=each.valid_until, size=each.size)
    if notes:
        raise FormatError(notes[0])


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
