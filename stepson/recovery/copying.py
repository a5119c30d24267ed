"""Copying what is sound into the new file: the second pass of `recover`."""

from collections.abc import Mapping, Sequence
from typing import Any

from crc32c import crc32c

from stepson.block import Block
from stepson.chunk import Chunk
from stepson.errors import DamagedError, FormatError
from stepson.opening import Header
from stepson.records import RecordType
from stepson.recovery.inventory import Inventory
from stepson.recovery.items import Item
from stepson.recovery.result import Range, span
from stepson.recovery.salvage import Copy, Kept, frames_of, lost_block, salvage
from stepson.scan import PIECE, Record, read_record
from stepson.schema import Schema
from stepson.source import Buffer, Sink, Source
from stepson.transaction import Appender

__all__ = ["Copier"]

COMMIT_BYTES = 2**25
SYNC_BYTES = 2**28
PLACE = ("field", "first", "count", "atoms", "offset")


class _Late:
    """A sink that syncs seldom: nobody sees the file before it is complete."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._pending = 0

    @property
    def size(self) -> int:
        return self._sink.size

    def read_at(self, offset: int, length: int) -> bytes:
        return self._sink.read_at(offset, length)

    def write(self, parts: Sequence[Buffer]) -> None:
        self._sink.write(parts)
        self._pending += sum(map(len, parts))

    def sync(self) -> None:
        if self._pending >= SYNC_BYTES:
            self._sink.sync()
            self._pending = 0

    def forget(self, start: int = 0) -> None:
        self._sink.forget(start)

    def close(self) -> None:
        self._sink.close()


class Copier:
    """Appends the items of an inventory to a new file.

    Args:
        sink: of the new file.
        header: of the new file.
        schema: of the new file: fields of the old one, some of them irregular now.
        metadata: of the new file.
        source: the old file.
        found: what is sound in it.
        name: of the new file, for messages.
    """

    def __init__(
        self,
        sink: Sink,
        header: Header,
        schema: Schema,
        metadata: Mapping[str, Any],
        source: Source,
        found: Inventory,
        name: str,
    ) -> None:
        self._sink = sink
        self._source = source
        self._found = found
        self._schema = schema
        late = _Late(sink)
        self._out = Appender.create(late, header, schema, metadata, name=name)
        self._committed = self._out.size
        self._point: int | None = None
        self._last_step = -1
        self.frames = 0
        self.skipped = 0
        """Frames of blocks that came too late: `items` lets none come."""
        self.samples = {each.name: 0 for each in schema.fields}
        self.checkpoints: list[int] = []
        self._spans: dict[str, list[Range]] = {each.name: [] for each in schema.fields}

    def take(self, item: Item) -> None:
        """Append one item.

        Raises:
            DamagedError: the old file has changed since it was read for the first time.
            WriterError: the new one cannot be written.
        """
        if item.kind == "end":
            self._end(self._out.size - self._committed > COMMIT_BYTES)
        elif item.kind == "lost":
            for first, end in self._found.filler.spans(item.first, item.end):
                kept = lost_block(self._found.schema, first, end, self._found.filler)
                self._write(None, kept)
        else:
            record = read_record(self._source, item.place, aligned=False)
            if item.kind == "block":
                self._block(record)
            elif item.kind == "note":
                self._out.record(RecordType.NOTE, record.map)
            elif item.kind == "checkpoint":
                self._checkpoint(record, item.first)

    def _end(self, due: bool) -> None:
        """End of a transaction of the old file: a checkpoint belongs to one of its own."""
        if self._out.open and (due or self._point is not None):
            self._out.commit()
            self._committed, self._point = self._out.size, None

    def _block(self, record: Record) -> None:
        found = self._found
        block = Block(record, found.schema)
        bad = found.bad.get(record.offset, frozenset())
        self._write(record, salvage(self._source, block, bad, found.filler))

    def _write(self, record: Record | None, kept: Mapping[str, Kept]) -> None:
        kept = {each.name: kept[each.name] for each in self._schema.fields}
        frames = frames_of(kept)
        if not len(frames):
            return
        if frames[0] <= self._last_step:
            self.skipped += len(frames)
            return
        self._last_step = int(frames[-1])
        steps = [kept[group.fields[0].name].steps for group in self._schema.cadences]
        copies: list[tuple[dict[str, Any], Chunk]] = []
        values = {}
        for name, each in kept.items():
            if each.values is not None:
                values[name] = each.values
            if record is not None:
                copies += [self._chunk(record, name, one) for one in each.copies]
            self.samples[name] += len(each.steps)
            if len(each.steps):
                self._spans[name].append(span(each.steps))
        self._out.copied_block(steps, copies, values)
        self.frames += len(frames)

    def _chunk(self, record: Record, name: str, one: Copy) -> tuple[dict[str, Any], Chunk]:
        known = type(one.info.get("codec")), type(one.info.get("raw"))
        if known != (str, int):
            raise FormatError("a chunk that names no codec", offset=record.offset)
        data = record.read(self._source, one.offset, one.size)
        if crc32c(data) != one.info["crc32c"]:
            raise DamagedError(
                "a chunk that was sound a moment ago",
                offset=record.payload + one.offset,
                field=name,
                advice="the file changes while it is read; try again",
            )
        info = {key: value for key, value in one.info.items() if key not in PLACE}
        place = {**one.place, "field": self._schema.places[name]}
        return place, Chunk(data, info)

    def _checkpoint(self, record: Record, step: int) -> None:
        if self._point is not None:
            self._end(True)
        length = record.prefix.payload_length
        parts = [
            record.read(self._source, start, min(PIECE, length - start))
            for start in range(0, length, PIECE)
        ]
        tree = {key: value for key, value in record.map.items() if key != "step"}
        self._out.write_checkpoint(step, tree, parts)
        self._point = step
        self.checkpoints.append(step)

    def finish(self) -> None:
        """Seal the new file and sync it."""
        self._out.seal()
        self._sink.sync()

    def ranges(self, lost: Mapping[str, Sequence[Range]]) -> dict[str, list[Range]]:
        """The steps of each field that were saved, from loss to loss."""
        return {
            name: _between(spans, lost.get(name, ())) for name, spans in self._spans.items()
        }


def _between(spans: Sequence[Range], lost: Sequence[Range]) -> list[Range]:
    out: list[Range] = []
    waiting = list(lost)
    for first, last in spans:
        broken = False
        while waiting and waiting[0][0] <= first:
            broken = bool(waiting.pop(0))
        if out and not broken:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    return out
