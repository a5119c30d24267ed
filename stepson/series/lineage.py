"""Who continues whom: files sorted into chains by the parents that they name.

A file names its parent by uuid, by the digest of the COMMIT that it went on from, and by
the last step of it. The order in which files are given does not matter.

What is decided here:

- **Without a parent nothing is joined**, unless ``join=True`` asks for it. Two runs whose
  steps happen to follow one another look like two parts of one; joining the wrong ones
  would falsify every correlation without a sign, while two runs that should be one are
  seen at once.
- **A fork ends a chain.** Where two files continue the same one, all three are runs of
  their own: no frame is in two runs of an ensemble, and no branch is preferred.
- **A file that starts no later than its parent, or no later than the step of it that it
  goes on from,** counts its steps anew, as a stage does that starts from another one: a
  run of its own.
- **A parent that is not there** is no error: the chain starts where it starts.
- **A digest that the parent does not have** (it lost its tail, or is an older copy):
  joined, and said so; also where it would take too long to find out.
- The same file twice, and a circle, are refused.

Implements ``spec/son-1.md`` 6.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import pairwise

from stepson.errors import FormatError, SchemaError
from stepson.index import Column
from stepson.opening import Opened
from stepson.records import COMMIT_SIZE, Commit
from stepson.scan import read_commit
from stepson.series.member import Member, Shelf
from stepson.source import expect

__all__ = ["Chains", "sort_chains", "strangers"]

MOST_COMMITS = 2**15
"""To look at for one digest: a second or so."""
PIECE = 2**22
MOST_PIECES = 2


class Chains:
    """Files in chains.

    Args:
        members: all files.

    Raises:
        SchemaError: a file twice, or a circle.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.known = _by_uuid(members)
        _refuse_circles(self.known)
        self.notes: list[str] = []
        """Why files are apart that name one another."""
        self._next = self._links(members)
        behind = {each.uuid for each in self._next.values()}
        self.chains = [self._from(each) for each in members if each.uuid not in behind]

    def _links(self, members: Sequence[Member]) -> dict[str, Member]:
        """For a file the one that continues it."""
        children: dict[str, list[Member]] = {}
        for each in members:
            if each.parent in self.known:
                reason = self._counts_anew(each)
                if reason:
                    self.notes.append(
                        f"{each.where} starts at step {each.first}, no later than "
                        f"{reason}: it is opened as a run of its own"
                    )
                else:
                    children.setdefault(each.parent, []).append(each)
        alive = self._alive(children)
        return {
            uuid: kept
            for uuid, found in children.items()
            if (kept := self._only(uuid, found, alive)) is not None
        }

    def _alive(self, children: Mapping[str, Sequence[Member]]) -> set[str]:
        """Files that have frames, or are continued by one that has."""
        alive: set[str] = set()
        for each in (child for found in children.values() for child in found):
            member: Member | None = each if each.frames else None
            while member is not None and member.uuid not in alive:
                alive.add(member.uuid)
                linked = member in children.get(member.parent or "", ())
                member = self.known[member.parent or ""] if linked else None
        return alive

    def _counts_anew(self, member: Member) -> str:
        """What a file would have to start behind, and does not; "" where it goes on.

        The step that counts last of the parent is in front of the first frame of what goes
        on from there, however much of the parent does not count.
        """
        if member.first is None:
            return ""
        told, before = member.parent_step, self.known.get(member.parent or "")
        while before is not None and before.first is None:
            told = before.parent_step if told is None else told
            before = self.known.get(before.parent or "")
        if before is None or before.first is None:
            return ""
        if member.first <= before.first:
            return f"{before.where}, which it names as its parent"
        if told is not None and member.first <= told:
            return f"step {told} of {before.where}, from which it names itself to go on"
        return ""

    def _only(
        self, uuid: str, children: Sequence[Member], alive: Set[str]
    ) -> Member | None:
        """The child; of several the one that came to frames, if it alone did."""
        branches = [each for each in children if each.uuid in alive or not children[1:]]
        if len(branches) < 2:
            return branches[0] if branches else None
        names = ", ".join(str(each.where) for each in branches)
        self.notes.append(
            f"{self.known[uuid].where} is continued by {len(branches)} files ({names}): "
            "it and they are opened as runs of their own; give it with one to join the two"
        )
        return None

    def _from(self, member: Member) -> list[Member]:
        chain = [member]
        while (found := self._next.get(chain[-1].uuid)) is not None:
            chain.append(found)
        return chain


def sort_chains(
    members: Sequence[Member], join: bool | None
) -> tuple[list[list[Member]], list[str]]:
    """Sort files into chains.

    Args:
        members: all files.
        join: None: by their parents; True: all into one; False: each alone.

    Returns:
        the chains, each in the order of its steps, and what should be said about them.

    Raises:
        SchemaError: a file twice, a circle, or files that cannot be one.
    """
    found = Chains(members)
    if join is False:
        return [[each] for each in members], []
    if not join:
        return found.chains, found.notes
    if found.notes:
        raise SchemaError(f"these files are no single trajectory: {found.notes[0]}")
    return [_one(found.chains)], []


def _one(chains: list[list[Member]]) -> list[Member]:
    """Chains in the order of their steps, which must not overlap."""
    empty = [chain for chain in chains if _first(chain) is None]
    chains = sorted(
        (chain for chain in chains if _first(chain) is not None),
        key=lambda chain: _first(chain) or 0,
    )
    for before, behind in pairwise(chains):
        last, first = max(each.last or 0 for each in before), _first(behind) or 0
        if first <= last:
            raise SchemaError(
                f"{behind[0].where} starts at step {first}, {before[-1].where} ends at "
                f"step {last}, and neither names the other as its parent: they are no "
                "single trajectory; open them without join=True"
            )
    return [member for chain in [*chains, *empty] for member in chain]


def _first(chain: list[Member]) -> int | None:
    return next((each.first for each in chain if each.first is not None), None)


def _by_uuid(members: Sequence[Member]) -> dict[str, Member]:
    known: dict[str, Member] = {}
    for each in members:
        other = known.setdefault(each.uuid, each)
        if other is not each:
            raise SchemaError(
                f"{each.where} is given twice"
                if other.where == each.where
                else f"{other.where} and {each.where} are the same file (uuid "
                f"{each.uuid}); give it once"
            )
    return known


def _refuse_circles(known: Mapping[str, Member]) -> None:
    done: set[str] = set()
    for each in known.values():
        seen: set[str] = set()
        member: Member | None = each
        while member is not None and member.uuid not in done:
            if member.uuid in seen:
                raise SchemaError(
                    f"{member.where} continues itself, through {len(seen)} files; their "
                    "headers were made up"
                )
            seen.add(member.uuid)
            member = known.get(member.parent or "")
        done |= seen


def strangers(chain: Sequence[Member], shelf: Shelf) -> Iterator[tuple[int, str]]:
    """Files of a chain that are not what the next one went on from: its number, and why."""
    for number, (before, behind) in enumerate(pairwise(chain)):
        digest = behind.parent_digest
        if behind.parent != before.uuid or digest in (None, before.digest):
            continue
        step = -1 if behind.parent_step is None else behind.parent_step
        try:
            found = _holds(shelf[number].opened, digest or "", step)
        except FormatError:
            found = None  # What cannot be followed cannot be confirmed.
        if found:
            continue
        commit = f"{(digest or '')[:12]}…"
        yield (
            number + 1,
            f"{before.where} is not what {behind.where} continued: it has no commit "
            f"{commit}; it is an older copy, or has lost its end"
            if found is False
            else f"{before.where} cannot be confirmed to be what {behind.where} "
            f"continued: its commit {commit} is not among those that were looked at",
        )


def _holds(opened: Opened, digest: str, step: int) -> bool | None:
    """Whether a COMMIT with this digest is in the chain; None: not among those looked at.

    First where it should be. A file that ends in front of the step can only hold it behind
    its last frame.
    """
    last = opened.tail.commit
    if step >= last.end_step:
        return _walk(opened, last, digest, last.end_step - 1)
    near = _behind(opened, step)
    if near is not None and _walk(opened, near, digest, step):
        return True
    return _walk(opened, last, digest, -1)


def _behind(opened: Opened, step: int) -> Commit | None:
    """The COMMIT of the first block behind a step, where the index tells it."""
    unit = opened.tree.find(Column.END, step + 1)
    place = 0 if unit is None else int(unit.row[Column.COMMIT])
    if not place:
        return None
    return read_commit(opened.source, place, opened.header.uuid)


def _walk(opened: Opened, commit: Commit, digest: str, step: int) -> bool | None:
    """Go back along the chain until a COMMIT ends before a step; None: it is too long.

    Of a file that is far away, pieces of `PIECE` bytes are looked through, since each
    COMMIT by itself would be a round trip.
    """
    source, known, pieces = opened.source, commit.offset, 0
    for _ in range(MOST_COMMITS):
        if commit.digest.hex() == digest:
            return True
        if not commit.previous or commit.end_step <= step:
            return False
        if commit.previous < known and getattr(source, "far", False):
            if pieces == MOST_PIECES:
                return None
            end, pieces = commit.previous + COMMIT_SIZE, pieces + 1
            known = max(0, end - PIECE)
            expect(source, [(known, end - known)])
        commit = read_commit(source, commit.previous, opened.header.uuid)
    return None
