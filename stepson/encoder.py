"""Samples -> the map and payload of a BLOCK or SCALARS; counterpart of `stepson.block`.

Small fields come first. Per-atom fields above 4 MiB are cut into tiles of atoms, others
along time. The codec of a field is chosen by trial on its first chunk and kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson import chunk
from stepson.block import CHUNK_RAW, Samples, Steps
from stepson.schema import MAX_SAMPLE_BYTES, Field, Schema

__all__ = ["Encoder", "count_runs", "runs_of"]

MAX_CHUNKS = 128
MIN_TILE = 1024
MAX_RUNS = 256
TRIAL_FRAMES = 128
Array = NDArray[Any]


def count_runs(steps: Steps) -> int:
    """How many runs `runs_of` would find."""
    return 1 + int(np.count_nonzero(np.diff(steps, 2))) if len(steps) > 2 else len(steps)


def runs_of(steps: Steps) -> list[list[int]]:
    """Steps as runs of (first, stride, count), each as long as its stride lasts."""
    runs: list[list[int]] = []
    breaks = (
        np.flatnonzero(np.diff(steps, 2)) + 2 if len(steps) > 2 else np.empty(0, np.int64)
    )
    start = 0
    for stop in [*breaks.tolist(), len(steps)]:
        if stop <= start:
            continue
        stride = int(steps[start + 1] - steps[start]) if stop - start > 1 else 1
        runs.append([int(steps[start]), stride, stop - start])
        start = stop
    return runs


class _Payload:
    """Collects encoded chunks and what a map says of them."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.chunks: list[dict[str, Any]] = []
        self.length = 0

    def add(self, place: dict[str, Any], encoded: chunk.Chunk) -> int:
        self.chunks.append({**place, "offset": self.length, **encoded.info})
        self.parts.append(encoded.data)
        self.length += len(encoded.data)
        return len(self.chunks) - 1


class Encoder:
    """Encodes samples; keeps the plan that was found on the first block for each field."""

    def __init__(self, schema: Schema, *, verify: bool = True) -> None:
        self._schema = schema
        self._verify = verify
        self._plans: dict[str, chunk.Plan] = {}
        self._copied: dict[str, str] = {}
        self.raw = np.zeros(len(schema.fields), np.int64)
        """Bytes handed over so far, by field."""
        self.stored = np.zeros(len(schema.fields), np.int64)
        """Bytes they became."""

    @property
    def codecs(self) -> dict[str, str]:
        """The codec of each field that has had samples."""
        return {**{name: plan.codec for name, plan in self._plans.items()}, **self._copied}

    def pack(self, samples: Samples) -> tuple[dict[str, Any], list[bytes]]:
        """The map and the payload of a BLOCK or SCALARS."""
        payload = _Payload()
        frames = samples.frames
        runs = self._pack_runs(payload, samples.steps)
        fields = [each for each in self._schema.fields if each.name in samples.values]
        raw = sum(samples.values[each.name].nbytes for each in fields)
        for each in sorted(fields, key=lambda f: not f.small):
            values = samples.values[each.name]
            for place in _tiles(each, values.shape, max(CHUNK_RAW, raw // MAX_CHUNKS)):
                self._pack_chunk(payload, each, values, place)
        content = {
            "frames": len(frames),
            "first": int(frames[0]),
            "end": int(frames[-1]) + 1,
            "samples": [len(steps) for steps in samples.steps],
            "runs": runs,
            "chunks": payload.chunks,
        }
        return content, payload.parts

    def assemble(
        self,
        steps: Sequence[Steps],
        copies: Sequence[tuple[dict[str, Any], chunk.Chunk]],
        values: Mapping[str, Array],
    ) -> tuple[dict[str, Any], list[bytes]]:
        """As `pack`, where some fields are chunks already.

        Args:
            steps: of the samples, for each cadence.
            copies: field, samples and atoms of each such chunk, and the chunk.
            values: the other fields.
        """
        content, parts = self.pack(Samples(tuple(steps), values))
        start, added = sum(map(len, parts)), _Payload()
        added.length = start
        fields = self._schema.fields
        for place, encoded in sorted(copies, key=lambda c: not fields[c[0]["field"]].small):
            added.add(place, encoded)
            self.raw[place["field"]] += encoded.info["raw"]
            self.stored[place["field"]] += len(encoded.data)
            self._copied[fields[place["field"]].name] = encoded.info["codec"]
        content["chunks"] += added.chunks
        return content, [*parts, *added.parts]

    def _pack_runs(
        self, payload: _Payload, steps: Sequence[Steps]
    ) -> list[list[list[int]] | int]:
        """Runs as they are, or where they are too many the number of a chunk of steps."""
        counts = [count_runs(each) for each in steps]
        most = MAX_RUNS if sum(counts) <= MAX_RUNS else MAX_RUNS // len(counts)
        return [
            runs_of(each) if count <= most else self._pack_steps(payload, each)
            for each, count in zip(steps, counts, strict=True)
        ]

    def _pack_steps(self, payload: _Payload, steps: Steps) -> int:
        plan = chunk.choose_plan(steps, precision=None, codec="delta")
        place = {"field": None, "first": 0, "count": len(steps)}
        return payload.add(place, chunk.encode(steps, plan, verify=self._verify))

    def _pack_chunk(
        self, payload: _Payload, field: Field, values: Array, place: "_Place"
    ) -> None:
        piece = values[place.first : place.first + place.count]
        number = self._schema.places[field.name]
        content: dict[str, Any] = {
            "field": number,
            "first": place.first,
            "count": place.count,
        }
        if field.per_atom:
            piece = piece[:, place.start : place.stop]
            content["atoms"] = [place.start, place.stop]
        encoded = chunk.encode(
            piece, self._plan(field, piece), precision=field.precision, verify=self._verify
        )
        payload.add(content, encoded)
        self.raw[number] += piece.nbytes
        self.stored[number] += len(encoded.data)

    def _plan(self, field: Field, values: Array) -> chunk.Plan:
        plan = self._plans.get(field.name)
        # a first block that the clock cut short must not decide for the whole file
        if plan is None or 0 < 2 * plan.frames <= min(len(values), TRIAL_FRAMES):
            plan = chunk.choose_plan(values, precision=field.precision, codec=field.codec)
            self._plans[field.name] = plan
        return plan


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a chunk stands in its record: a range of samples, a range of atoms."""

    first: int
    count: int
    start: int
    stop: int


def _tiles(field: Field, shape: tuple[int, ...], target: int) -> Iterator[_Place]:
    """Cut ``(samples, ...)`` into chunks of at most about `target` raw bytes."""
    count = shape[0]
    atoms = shape[1] if field.per_atom else 1
    each = field.sample_bytes(1)
    if not count * atoms * each:
        return
    if not field.per_atom:
        length = max(1, target // each)
        for first in range(0, count, length):
            yield _Place(first, min(length, count - first), 0, 1)
        return
    width = max(
        target // (count * each), min(MIN_TILE, MAX_SAMPLE_BYTES // (count * each)), 1
    )
    width = atoms if count * atoms * each <= target else width
    for start in range(0, atoms, width):
        yield _Place(0, count, start, min(start + width, atoms))
