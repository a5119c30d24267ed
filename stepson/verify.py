"""Checking a whole file: every checksum of everything that was committed.

Goes back along the chain of COMMITs, and over its breaks, through their transactions,
reading every byte once in bounded memory. ``deep`` also decodes every
chunk, rebuilds the index from the blocks and compares SCALARS with them. Damage is
collected, not raised: one damaged chunk must not hide another.
"""

import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from crc32c import crc32c

from stepson.block import Block
from stepson.copies import check_copies
from stepson.damage import Damage
from stepson.errors import DamageWarning, FormatError, StepsonError
from stepson.findings import break_damage, chunk_damage, hole_damage, record_name
from stepson.opening import Opened, open_source
from stepson.records import COMMIT_SIZE, MAGIC_SIZE, Commit, RecordType
from stepson.resync import Hole, Placed, bad_chunks, chain_back, commits_before, pieces
from stepson.scan import Record, payload_crc
from stepson.source import LocalFile
from stepson.tree import unpack_tree
from stepson.verification import Verification, note

__all__ = ["Verification", "verify", "verify_damaged"]

Progress = Callable[[int, int], None]
BLOCKS = (RecordType.BLOCK, RecordType.SCALARS)
TREES = (RecordType.METADATA, RecordType.CHECKPOINT)


def verify(
    opened: Opened, *, deep: bool = False, on_progress: Progress | None = None
) -> Verification:
    """Check everything that was committed.

    Args:
        opened: the file.
        deep: also decode, and compare the redundant copies.
        on_progress: called with bytes done and bytes to do.
    """
    check = _Check(opened, deep)
    last, total = opened.tail.commit, opened.tail.valid_until
    found: list[list[Damage]] = []
    for this, earlier, error in chain_back(
        opened.source, opened.header.uuid, Placed(last, last.offset)
    ):
        damages = [*check.transaction(this), *check.names(this, last)]
        if error is not None:
            damages = [*check.between(earlier, this, error), *damages]
        elif earlier is None:
            damages = [*check.first(this), *damages]
        if damages:
            found.append(damages)
        if on_progress is not None:
            on_progress(total if earlier is None else total - earlier.end, total)
    result = check.result
    result.damages = [damage for each in reversed(found) for damage in each]
    result.broken_footer = opened.broken_footer
    if opened.tail.damage is not None:
        result.damages.append(Damage.of(opened.tail.damage, bytes=COMMIT_SIZE))
    moved = _moved(opened)
    if moved is not None:
        result.damages.append(moved)
    if deep:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)  # what it tells is listed
            check_copies(opened, result)
            for error in opened.damages:  # of what opening and the index went around
                note(result, error)
    return result


def verify_damaged(
    path: Path, *, deep: bool = False, on_progress: Progress | None = None
) -> tuple[Verification, int]:
    """Check a file that cannot be opened because nothing tells which blocks came last.

    Returns:
        what is wrong, and how many bytes are torn.

    Raises:
        FormatError: HEADER, SCHEMA or all COMMITs are damaged, too.
    """
    with closing(LocalFile(path)) as source:
        try:
            opened = open_source(source, lenient=True)
        except FormatError as error:
            error.args = (f"{path}: {error}",)
            raise
        result = verify(opened, deep=deep, on_progress=on_progress)
        for each in opened.damages:
            note(result, each)
        return result, opened.torn_bytes


def _moved(opened: Opened) -> Damage | None:
    """A COMMIT in what seems torn, away from where it was written: bytes were lost."""
    end, size = opened.tail.valid_until, opened.size
    last = next(commits_before(opened.source, size, opened.header.uuid), None)
    if opened.tail.sealed or last is None or last.place < end or not last.shift:
        return None
    if last.commit.commits <= opened.tail.commit.commits:
        return None  # a copy of what counts already
    how = f"{abs(last.shift)} bytes are {'missing' if last.shift < 0 else 'too many'}"
    what = f"{how} from here on, what is behind them is not read"
    first, past = opened.tail.commit.end_step, last.commit.end_step
    return Damage(what, end, size - end, None, first, past - 1 if past > first else None)


class _Check:
    """Checks transactions one by one."""

    def __init__(self, opened: Opened, deep: bool) -> None:
        self.opened = opened
        self.deep = deep
        self.result = Verification()

    def transaction(self, this: Placed) -> list[Damage]:
        """Compare a transaction with its COMMIT; find what is wrong where they differ."""
        commit, heads, payloads = this.commit, 0, 0
        whole, source = True, self.opened.source
        found: list[Damage] = []
        records = frames = 0
        for piece in pieces(source, this.start, this.place):
            if isinstance(piece, Hole):
                whole = False
                continue
            heads = crc32c(piece.head, heads)
            payloads = payload_crc(source, piece, payloads)
            records += 1
            frames += self._frames(piece)
            if self.deep:
                found += self._content(piece)
        self.result.bytes += this.end - this.start
        self.result.records += 1
        self.result.commits += 1
        if whole and (heads, payloads) == (commit.heads_crc, commit.payloads_crc):
            self.result.records += records
            self.result.frames += frames
            return found
        named = self._locate(this.start, this.place, _steps(commit))
        if not named:
            what, size = "a transaction does not verify", this.place - this.start
            named = [Damage(what, this.start, size, None, *_steps(commit))]
        return named

    def names(self, this: Placed, last: Commit) -> list[Damage]:
        """A COMMIT must name the one SCHEMA and the one METADATA."""
        commit = this.commit
        if (commit.schema, commit.metadata) == (last.schema, last.metadata):
            return []
        what = "a COMMIT names another SCHEMA or METADATA"
        return [Damage(what, this.place, COMMIT_SIZE, None, *_steps(commit))]

    def first(self, this: Placed) -> list[Damage]:
        """A COMMIT that names none before it must be that of the first transaction."""
        commit = this.commit
        if (commit.start, commit.commits) == (MAGIC_SIZE, 1):
            return []
        what = "the chain of COMMITs ends here, and not at the first one"
        last = commit.first_step - 1
        steps = (0, last) if last >= 0 else (None, None)
        return [Damage(what, this.place, COMMIT_SIZE, None, *steps)]

    def between(
        self, earlier: Placed | None, this: Placed, error: FormatError
    ) -> list[Damage]:
        """Name a break of the chain, and check what stands in it."""
        start = MAGIC_SIZE if earlier is None else earlier.end
        first = 0 if earlier is None else earlier.commit.end_step
        last = this.commit.first_step - 1
        steps = (first, last) if last >= first else (None, None)
        named = break_damage(earlier, this, error)
        found = self._locate(start, this.start, steps, careful=True)
        found = [each for each in found if each.offset != named.offset]
        self.result.bytes += this.start - start
        return sorted([named, *found], key=lambda each: each.offset or 0)

    def _locate(
        self,
        start: int,
        end: int,
        steps: tuple[int | None, int | None],
        *,
        careful: bool = False,
    ) -> list[Damage]:
        """What exactly is damaged between two places."""
        found: list[Damage] = []
        for piece in pieces(self.opened.source, start, end, careful=careful):
            if isinstance(piece, Hole):
                hole = hole_damage(piece)
                if piece.kind in (None, RecordType.BLOCK):
                    hole = replace(hole, first_step=steps[0], last_step=steps[1])
                found.append(hole)
            else:
                found += self._chunks(piece)
        return found

    def _chunks(self, record: Record) -> list[Damage]:
        """The chunks of a record that do not verify."""
        bad = bad_chunks(self.opened.source, record)
        if not bad:
            return []
        kind = record.prefix.type
        try:
            block = Block(record, self.opened.schema) if kind in BLOCKS else None
            return [_named(block, record, *each) for each in bad.items()]
        except (FormatError, LookupError, TypeError):
            size = record.prefix.length
            what = f"{record_name(kind)} is not valid"
            return [Damage(what, record.offset, size)]

    def _frames(self, record: Record) -> int:
        if record.prefix.type != RecordType.BLOCK:
            return 0
        try:
            return Block(record, self.opened.schema).frames
        except FormatError:
            return 0

    def _content(self, record: Record) -> list[Damage]:
        """Decode everything in a record."""
        kind = record.prefix.type
        try:
            if kind in BLOCKS:
                return self._block(record)
            if kind in TREES:
                unpack_tree(self.opened.source, record)
        except StepsonError as error:
            return [Damage.of(error, offset=record.offset)]
        return []

    def _block(self, record: Record) -> list[Damage]:
        found: list[Damage] = []
        block = Block(record, self.opened.schema)
        block.all_steps(self.opened.source)
        for each in self.opened.schema.fields:
            if record.prefix.type == RecordType.SCALARS and not each.small:
                continue
            try:
                block.values(self.opened.source, each.name)
            except StepsonError as error:
                found.append(Damage.of(error, field=each.name, offset=record.offset))
        return found


def _steps(commit: Commit) -> tuple[int | None, int | None]:
    """First and last step of the frames of a transaction."""
    if commit.first_step < commit.end_step:
        return commit.first_step, commit.end_step - 1
    return None, None


def _named(block: Block | None, record: Record, number: int, actual: int | None) -> Damage:
    """A chunk that does not verify."""
    info = record.map["chunks"][number]
    if block is not None:
        found = chunk_damage(block, info, actual)
        if record.prefix.type == RecordType.SCALARS:
            return replace(found, what="a chunk of SCALARS, a copy, does not verify")
        return found
    what = f"a chunk of {record_name(record.prefix.type)} does not verify"
    step = record.map.get("step")
    place, size = record.payload + info["offset"], info["size"]
    step = step if type(step) is int else None
    expected = info.get("crc32c") if type(info.get("crc32c")) is int else None
    return Damage(what, place, size, None, step, step, expected, actual)
