"""From files to an ensemble: which belong together, which are left out, and what to say."""

from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from stepson.errors import FormatError, TornError
from stepson.opening import Opened, open_named
from stepson.series.agreement import split
from stepson.series.borders import mention
from stepson.series.ensemble import Ensemble, Run
from stepson.series.joined import Joined
from stepson.series.lineage import sort_chains, strangers
from stepson.series.member import Known, Member, Shelf, SourceOf
from stepson.series.names import Name, Named

__all__ = ["assemble"]

AT_ONCE = 8
"""URLs whose ends are held at the same time."""


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
