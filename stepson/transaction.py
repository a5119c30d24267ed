"""Appending transactions to a sink: record* TABLE COMMIT, one sync each.

Theory of operation. `Appender` keeps its own account of the file: where it ends, the
totals, the entries since the last INDEX, the roots of the index. Before a transaction it
compares the file's size with that account, so that bytes by anyone else stop it. A
transaction's first byte is written only after the sync of the one before returned; that is
what allows a reader to conclude that only the last transaction can be torn. After a failed
write or sync nothing is retried: what the kernel has dropped it may never report again, so
the appender is dead and the file is what was committed.

INDEX and SCALARS of earlier blocks are records of the transaction that finds 256 entries
waiting, or 64 MiB of small fields. SCALARS is read back from the blocks, so its content is
what readers see. Implements ``spec/son-1.md`` 2.10, 2.11, 3.
"""

import os
import socket
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypedDict, Unpack

import numpy as np
from crc32c import crc32c

from stepson.block import Array, Samples, Steps, gather_small
from stepson.chunk import Chunk
from stepson.encoder import Encoder
from stepson.errors import UNREADABLE, DamageWarning, FormatError, WriterError
from stepson.growth import Growth
from stepson.index import Column, Entries
from stepson.opening import Header, Opened, Table, Totals
from stepson.records import (
    ALIGNMENT,
    COMMIT_SIZE,
    MAGIC_SIZE,
    Commit,
    RecordType,
    magic,
    pack_head,
    pack_map,
    padded,
)
from stepson.schema import Schema
from stepson.source import Buffer, Sink, insist
from stepson.tree import pack_tree

__all__ = ["Appender"]


class Options(TypedDict, total=False):
    """Of an `Appender`."""

    verify: bool
    """Decompress and compare every chunk; True."""
    name: str
    """Of the file, for messages."""


def _explained(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file was deleted while it was being written; nothing of it is left"
    return (
        f"writing failed: {error.strerror or error}; what was committed is safe, and once "
        "there is a remedy the same command, or mode 'a', goes on after it"
    )


class Appender:
    """Writes records and commits; see the module.

    Args:
        sink: where to append.
        header: of the file.
        schema: of the file.
        commit: the last COMMIT, or what the first one starts from.
        table: as of that COMMIT.
        roots: of the index, as of that COMMIT.
        size: of the sink.
        verify: decompress and compare every chunk.
        name: of the file, for messages.
    """

    def __init__(
        self,
        sink: Sink,
        header: Header,
        schema: Schema,
        commit: Commit,
        table: Table,
        roots: Sequence[Entries],
        *,
        size: int,
        verify: bool = True,
        name: str = "the file",
    ) -> None:
        self._name = name
        self.sink = sink
        self.header = header
        self.schema = schema
        self.committed = commit
        self.table = table
        self.size = size
        self._verify = verify
        self._encoder = Encoder(schema, verify=verify)
        self._base = table.totals
        self._growth = Growth(schema, table.entries, roots)
        self._failed: str | None = None
        self._sequence = commit.sequence + 1
        self._begin()

    def _begin(self) -> None:
        """Forget what the last transaction collected."""
        self._start: int | None = None
        self._heads = self._payloads = 0
        self._index, self._scalars = self.committed.index, self.committed.scalars
        self._checkpoint: tuple[int, int] | None = None

    @classmethod
    def create(
        cls,
        sink: Sink,
        header: Header,
        schema: Schema,
        metadata: Mapping[str, Any],
        **options: Unpack[Options],
    ) -> "Appender":
        """Write everything up to and including the first COMMIT.

        Raises:
            SchemaError: the metadata cannot be stored.
            WriterError: the sink failed.
        """
        nothing = Commit(header.uuid, *(0,) * 16, bytes(32), -1)
        table = Table(
            Entries.of([], len(schema.cadences)), (), Totals.none(len(schema.fields))
        )
        made = cls(sink, header, schema, nothing, table, (), size=0, **options)
        tree, parts = pack_tree(metadata, "metadata")
        made._guard(lambda: sink.write([magic()]))
        made.size = MAGIC_SIZE
        made.record(RecordType.HEADER, header.to_map())
        place = made.record(RecordType.SCHEMA, schema.to_map())
        metadata_place = made.record(RecordType.METADATA, tree, parts)
        made.committed = replace(nothing, schema=place, metadata=metadata_place)
        made._finish(table=0)
        return made

    @classmethod
    def resume(
        cls, sink: Sink, opened: Opened, *, program: str, **options: Unpack[Options]
    ) -> "Appender":
        """Go on after the last COMMIT of a file: pad, and note who opened it.

        Raises:
            FormatError: COMMIT and TABLE contradict each other.
            WriterError: the sink failed.
        """
        size = opened.size
        commit, header, schema = opened.tail.commit, opened.header, opened.schema
        table, roots = opened.instead.settled(opened.table, opened.tree.roots, commit)
        made = cls(sink, header, schema, commit, table, roots, size=size, **options)
        last = made._growth.last
        if (commit.frames, commit.end_step) != (last[Column.FRAMES], last[Column.END]):
            raise FormatError("a COMMIT contradicts its TABLE", offset=commit.offset)
        if size % ALIGNMENT:
            made._guard(lambda: sink.write([bytes(-size % ALIGNMENT)]))
            made.size = padded(size)
        event = {"event": "opened for append", "torn_bytes": opened.torn_bytes}
        made.note({"writer": program, **event})
        made.commit()
        return made

    def record(
        self, kind: RecordType, content: Mapping[str, Any], parts: Sequence[Buffer] = ()
    ) -> int:
        """Append a record to the transaction; returns its offset.

        Raises:
            SchemaError: the map cannot be stored.
            WriterError: the sink failed, or someone else has written to the file.
        """
        packed = pack_map(content, kind.name)
        if self._start is None:
            self._open_transaction()
        length = sum(map(len, parts))
        head = pack_head(kind, packed, length, self._sequence)
        offset, end = self.size, padded(len(head) + length)
        self._guard(
            lambda: self.sink.write([head, *parts, bytes(end - len(head) - length)])
        )
        self._heads = crc32c(head, self._heads)
        for part in parts:
            self._payloads = crc32c(part, self._payloads)
        self._sequence += 1
        self.size += end
        return offset

    def _open_transaction(self) -> None:
        size = self._guard(lambda: self.sink.size)
        if size != self.size:
            self._failed = (
                f"{self._name} has {size} bytes instead of {self.size}: something else "
                "wrote to it; nothing more is written, what was committed is safe"
            )
            raise WriterError(self._failed)
        self._start = self.size

    def _guard(self, action: Callable[[], Any]) -> Any:
        """Run something that touches the sink; after a failure nothing ever does again."""
        if self._failed is not None:
            raise WriterError(self._failed)
        try:
            return action()
        except OSError as error:
            self._failed = f"{self._name}: {_explained(error)}"
            raise WriterError(self._failed) from error

    def block(self, samples: Samples) -> None:
        """Append a BLOCK; it is visible after the next `commit`."""
        content, parts = self._encoder.pack(samples)
        self._growth.add_block(self.record(RecordType.BLOCK, content, parts), content)

    def copied_block(
        self,
        steps: Sequence[Steps],
        copies: Sequence[tuple[dict[str, Any], Chunk]],
        values: Mapping[str, Array],
    ) -> None:
        """Append a BLOCK of chunks from another file; see `Encoder.assemble`."""
        content, parts = self._encoder.assemble(steps, copies, values)
        self._growth.add_block(self.record(RecordType.BLOCK, content, parts), content)

    def write_checkpoint(
        self, step: int, tree: dict[str, Any], parts: Sequence[Buffer]
    ) -> None:
        """Append a CHECKPOINT that was packed before."""
        offset = self.record(RecordType.CHECKPOINT, {"step": step, **tree}, parts)
        self._checkpoint = (step, offset)

    def note(self, content: Mapping[str, Any]) -> None:
        """Append a NOTE: who, where, when, and `content`."""
        who = {"host": socket.gethostname(), "pid": os.getpid()}
        time = datetime.now(UTC).isoformat(timespec="seconds")
        self.record(RecordType.NOTE, {**who, "time": time, **content})

    @property
    def open(self) -> bool:
        """Whether the transaction has records already."""
        return self._start is not None

    def commit(self) -> None:
        """End the transaction with TABLE and COMMIT, and sync: then it is durable.

        Raises:
            WriterError: the sink failed; the transaction does not count.
        """
        growth = self._growth
        if self._checkpoint is not None:
            growth.add_checkpoint(*self._checkpoint)
        for row in growth.new:
            if growth.full:
                self._write_index()
            growth.waiting.append(row)
        self._write_table()

    def seal(self) -> None:
        """End the file: commit what is open, INDEX and SCALARS of what waits, FOOTER."""
        if self.open:
            self.commit()
        if self._growth.waiting:
            self._write_index()
            self._write_table()
        self._write_footer()

    def _write_index(self) -> None:
        """Move what waits into an INDEX; higher levels follow when they are full."""
        scalars, level = self._write_scalars(), 0
        self._write_level(level, scalars)
        while self._growth.full_level(level):
            level += 1
            self._write_level(level, 0)

    def _write_level(self, level: int, scalars: int) -> None:
        record = self._growth.fold(level, self.size, scalars)
        self._index = self.record(RecordType.INDEX, record.to_map())

    def _write_scalars(self) -> int:
        """Write the small fields of what waits once more, contiguous; 0 for none.

        A block that has been damaged on the disk meanwhile must not stop a run.
        """
        waiting = self._growth.waiting
        blocks = [int(row[Column.RECORD]) for row in waiting if row[Column.RECORD]]
        if not self.schema.has_per_atom or not blocks:
            return 0
        try:
            samples = self._guard(
                lambda: insist(self.sink, blocks[0], partial(self._gather, blocks))
            )
        except UNREADABLE as error:
            what = f"{self._name}: {error}; its small fields are not copied"
            warnings.warn(what, DamageWarning, stacklevel=2)
            return 0
        content, parts = Encoder(self.schema, verify=self._verify).pack(samples)
        self._scalars = self.record(RecordType.SCALARS, content, parts)
        return self._scalars

    def _gather(self, blocks: Sequence[int]) -> Samples:
        return gather_small(self.sink, self.schema, blocks, self.size)

    def _write_table(self) -> None:
        """TABLE, COMMIT, sync."""
        checkpoints = self.table.checkpoints
        if self._checkpoint is not None:
            checkpoints = (*checkpoints, self._checkpoint)[-2:]
        table = Table(self._growth.table_entries, checkpoints, self._totals())
        offset = self.record(RecordType.TABLE, table.to_map())
        self.table = table
        self._finish(offset)

    def _finish(self, table: int) -> None:
        """COMMIT and sync."""
        before, last = self.committed, self._growth.last
        rows = self._growth.new
        points = [place for _, place in self.table.checkpoints]
        end = int(last[Column.END])
        commit = Commit(
            uuid=self.header.uuid,
            offset=self.size,
            start=self._start or 0,
            first_step=int(rows[0][Column.FIRST]) if rows else end,
            end_step=end,
            frames=int(last[Column.FRAMES]),
            commits=before.commits + 1,
            previous=before.offset,
            index=self._index,
            scalars=self._scalars,
            checkpoint=points[-1] if points else 0,
            checkpoint_before=points[0] if len(points) > 1 else 0,
            schema=before.schema,
            metadata=before.metadata,
            table=table,
            heads_crc=self._heads,
            payloads_crc=self._payloads,
            chain=before.digest if before.offset else bytes(32),
            sequence=self._sequence % 2**32,
        )
        self._guard(lambda: self.sink.write([commit.pack()]))
        self.size += COMMIT_SIZE
        self._guard(self.sink.sync)
        self._sequence += 1
        self._growth.settle(commit.offset)
        self.committed = commit
        self._begin()

    def _totals(self) -> Totals:
        """Sums over the file: those at opening, and what was encoded since."""
        base, encoder = self._base, self._encoder
        raw = (np.array(base.raw, np.int64) + encoder.raw).tolist()
        stored = (np.array(base.stored, np.int64) + encoder.stored).tolist()
        codecs = (
            encoder.codecs.get(each.name, old)
            for each, old in zip(self.schema.fields, base.codecs, strict=True)
        )
        return Totals(tuple(raw), tuple(stored), tuple(codecs))

    def _write_footer(self) -> None:
        """FOOTER and its own sync."""
        content = {
            "uuid": self.header.uuid,
            "offset": self.size,
            "commit": self.committed.offset,
            "digest": self.committed.digest,
            "roots": [each.to_map() for each in self._growth.root_entries],
            "totals": self._totals().to_map(),
        }
        self.record(RecordType.FOOTER, content)
        self._guard(self.sink.sync)
        self._begin()
